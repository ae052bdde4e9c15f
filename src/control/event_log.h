// SPDX-License-Identifier: GPL-2.0-or-later
//
// The last events of a mounted mirror, numbered from 1, in memory. Old ones
// make room for new ones, so whoever reads too slowly misses some and is told
// how many; nobody is waited for.
//
// Threads: all calls from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/clock.h"
#include "base/event.h"
#include "base/fd.h"
#include "control/control_stream.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

struct NumberedEvent {
  uint64_t number = 0;
  Event event;
};

nlohmann::json DescribeEvent(const NumberedEvent& numbered);

class EventLog final : public EventSink {
 public:
  static constexpr size_t kCountMax = 1000;
  static constexpr size_t kDetailBytesMax = 1024;

  // The clock outlives it.
  EventLog(std::string mirror, const Clock* clock,
           size_t count_max = kCountMax);

  void Post(EventName name, absl::string_view leg,
            absl::string_view detail) override;

  struct Batch {
    std::vector<NumberedEvent> events;  // oldest first
    uint64_t lost = 0;                  // went before they were asked for
  };
  // Those with numbers above `number`.
  Batch After(uint64_t number) const;

  // Reads on from event to event.
  class Reader {
   public:
    Reader(EventLog* log, uint64_t after);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    // Readable when there may be something to take.
    int ready_fd() const { return ready_.get(); }
    // What came since the last time.
    Batch Take();

   private:
    EventLog* const log_;
    uint64_t position_;
    UniqueFd ready_;
  };

  // {"events":[...],"lost":N}, for the control socket.
  nlohmann::json Describe(uint64_t after) const;
  // The events after `after` and all that follow, as lines {"event":{...}} and
  // {"lost":N}. The log outlives it. Null when the process has no descriptor
  // left.
  std::unique_ptr<ControlStream> Follow(uint64_t after);

 private:
  const std::string mirror_;
  const Clock* const clock_;
  const size_t count_max_;

  mutable std::mutex mutex_;  // never held during anything that may block
  std::deque<NumberedEvent> events_;
  uint64_t last_number_ = 0;
  absl::flat_hash_set<int> ready_fds_;  // the readers'
};

}  // namespace mirrorfs
