// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/event_log.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::json;

// Cannot block: it is non-blocking, and a full counter is readable as well.
void Signal(int event_fd) {
  const uint64_t one = 1;
  (void)!write(event_fd, &one, sizeof(one));
}

class EventStream final : public ControlStream {
 public:
  EventStream(EventLog* log, uint64_t after) : reader_(log, after) {}
  int ready_fd() const override { return reader_.ready_fd(); }
  std::vector<Json> Take() override {
    const EventLog::Batch batch = reader_.Take();
    std::vector<Json> lines;
    if (batch.lost > 0) lines.push_back({{"lost", batch.lost}});
    for (const NumberedEvent& event : batch.events) {
      lines.push_back({{"event", DescribeEvent(event)}});
    }
    return lines;
  }

 private:
  EventLog::Reader reader_;
};

}  // namespace

Json DescribeEvent(const NumberedEvent& numbered) {
  const Event& event = numbered.event;
  const absl::Time time = absl::FromUnixNanos(event.time_ns);
  return {{"number", numbered.number},
          {"time", absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time,
                                    absl::UTCTimeZone())},
          {"name", EventText(event.name)},
          {"mirror", event.mirror},
          {"leg", event.leg},
          {"detail", event.detail}};
}

EventLog::EventLog(std::string mirror, const Clock* clock, size_t count_max)
    : mirror_(std::move(mirror)), clock_(clock), count_max_(count_max) {}

void EventLog::Post(EventName name, absl::string_view leg,
                    absl::string_view detail) {
  NumberedEvent posted;
  posted.event = {clock_->RealtimeNs(), name, mirror_, std::string(leg),
                  std::string(detail.substr(0, kDetailBytesMax))};
  std::lock_guard lock(mutex_);
  posted.number = ++last_number_;
  events_.push_back(std::move(posted));
  if (events_.size() > count_max_) events_.pop_front();
  for (const int fd : ready_fds_) Signal(fd);
}

EventLog::Batch EventLog::After(uint64_t number) const {
  std::lock_guard lock(mutex_);
  // Of a later daemon than the one that was asked before: all is new.
  if (number > last_number_) number = 0;
  Batch batch;
  const uint64_t wanted = last_number_ - number;
  const uint64_t there = std::min<uint64_t>(wanted, events_.size());
  batch.lost = wanted - there;
  batch.events.assign(events_.end() - static_cast<ptrdiff_t>(there),
                      events_.end());
  return batch;
}

Json EventLog::Describe(uint64_t after) const {
  const Batch batch = After(after);
  Json events = Json::array();
  for (const NumberedEvent& event : batch.events) {
    events.push_back(DescribeEvent(event));
  }
  return {{"events", std::move(events)}, {"lost", batch.lost}};
}

std::unique_ptr<ControlStream> EventLog::Follow(uint64_t after) {
  auto stream = std::make_unique<EventStream>(this, after);
  if (stream->ready_fd() < 0) return nullptr;
  return stream;
}

EventLog::Reader::Reader(EventLog* log, uint64_t after)
    : log_(log),
      position_(after),
      ready_(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!ready_.valid()) return;
  std::lock_guard lock(log_->mutex_);
  log_->ready_fds_.insert(ready_.get());
}

EventLog::Reader::~Reader() {
  std::lock_guard lock(log_->mutex_);
  log_->ready_fds_.erase(ready_.get());
}

EventLog::Batch EventLog::Reader::Take() {
  uint64_t count;
  // Before looking, so that what comes meanwhile is signalled again.
  (void)!read(ready_.get(), &count, sizeof(count));
  Batch batch = log_->After(position_);
  if (!batch.events.empty()) position_ = batch.events.back().number;
  return batch;
}

}  // namespace mirrorfs
