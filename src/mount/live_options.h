// SPDX-License-Identifier: GPL-2.0-or-later
//
// The options of a mounted mirror: what they are, and changing those that may
// change. `mirrorfs get`, `mirrorfs set` and `mount -o remount` come here; the
// table in option_table.cc says which are live, and the daemon what follows
// from a change.
//
// Threads: all calls from any thread.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mount/options.h"

namespace mirrorfs {

class LiveOptions {
 public:
  // Whether these options fit this mirror, beyond what their words tell.
  using Check = std::function<absl::Status(const MountOptions&)>;
  // Makes these options the ones in force; they have been checked.
  using Apply = std::function<void(const MountOptions&)>;

  LiveOptions(MountOptions options, Check check, Apply apply);

  struct Shown {
    std::string name;
    std::string value;
    bool live = false;
  };
  // All that have a value, in the order of the table.
  std::vector<Shown> Show() const;

  // Changes all of them or none. An option that cannot change may be named
  // with the value that it has: mount(8) repeats what stands in fstab.
  absl::Status Set(const std::vector<GivenOption>& changes, bool dry_run);

 private:
  const Check check_;
  const Apply apply_;
  mutable std::mutex mutex_;  // held while applying: in one order for all
  MountOptions options_;
};

}  // namespace mirrorfs
