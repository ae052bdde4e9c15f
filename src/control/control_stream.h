// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <vector>

#include "nlohmann/json.hpp"

namespace mirrorfs {

// What a daemon goes on saying on a control connection, after it has answered:
// a line whenever there is something to say. Used by one thread.
class ControlStream {
 public:
  virtual ~ControlStream() = default;
  // Readable when Take may have something.
  virtual int ready_fd() const = 0;
  // Never blocks.
  virtual std::vector<nlohmann::json> Take() = 0;
};

}  // namespace mirrorfs
