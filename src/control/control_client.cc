// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/control_client.h"

#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errno.h"
#include "base/fd.h"
#include "control/socket_address.h"

namespace mirrorfs {
namespace {

constexpr char kSuffix[] = ".sock";
constexpr size_t kReadBytes = 65536;
// An answer may list every dirty region of a mirror; this only bounds what a
// daemon gone wild can make us hold.
constexpr size_t kAnswerBytesMax = size_t{1} << 30;

absl::Status TooLate() {
  return absl::DeadlineExceededError("the daemon does not answer");
}

absl::Status Wait(int fd, short events, absl::Time deadline) {
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return TooLate();
    const int64_t ms =
        absl::ToInt64Milliseconds(std::min(left, absl::Minutes(1))) + 1;
    pollfd wait = {fd, events, 0};
    const int ready = poll(&wait, 1, static_cast<int>(ms));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return ToStatus(Errno::Last(), "poll");
  }
}

absl::StatusOr<UniqueFd> Connect(const std::string& path, absl::Time deadline) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Of(path);
  if (!address.ok()) return address.status();
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ToStatus(Errno::Last(), "socket");
  while (connect(fd.get(), address->address(), address->size()) != 0) {
    if (errno == ECONNREFUSED || errno == ENOENT || errno == ENOTSOCK) {
      return absl::UnavailableError("no daemon listens");
    }
    if (errno != EAGAIN && errno != EINTR) {
      return ToStatus(Errno::Last(), path);
    }
    // A full queue cannot be polled for.
    if (absl::Now() >= deadline) return TooLate();
    absl::SleepFor(absl::Milliseconds(20));
  }
  return fd;
}

absl::Status SendAll(int fd, absl::string_view bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(sent);
    } else if (errno == EAGAIN) {
      absl::Status status = Wait(fd, POLLOUT, deadline);
      if (!status.ok()) return status;
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return absl::UnavailableError("the daemon hung up");
    } else if (errno != EINTR) {
      return ToStatus(Errno::Last(), "send");
    }
  }
  return absl::OkStatus();
}

// The next line; what was received after it stays in `received`.
absl::StatusOr<std::string> ReceiveLine(int fd, absl::Time deadline,
                                        std::string* received) {
  size_t looked_at = 0;
  while (received->size() <= kAnswerBytesMax) {
    const size_t end = received->find('\n', looked_at);
    if (end != received->npos) {
      std::string line = received->substr(0, end);
      received->erase(0, end + 1);
      return line;
    }
    looked_at = received->size();
    absl::Status status = Wait(fd, POLLIN, deadline);
    if (!status.ok()) return status;
    received->resize(looked_at + kReadBytes);
    const ssize_t got = recv(fd, received->data() + looked_at, kReadBytes, 0);
    received->resize(looked_at + std::max<ssize_t>(got, 0));
    if (got == 0) return absl::UnavailableError("the daemon hung up");
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
      return absl::UnavailableError("the daemon hung up");
    }
  }
  return absl::DataLossError("the daemon's answer is too long");
}

// A connection on which the request has been sent.
absl::StatusOr<UniqueFd> Ask(const std::string& socket_path,
                             const nlohmann::json& request,
                             absl::Time deadline) {
  absl::StatusOr<UniqueFd> fd = Connect(socket_path, deadline);
  if (!fd.ok()) return fd.status();
  const std::string line =
      request.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
      "\n";
  absl::Status sent = SendAll(fd->get(), line, deadline);
  if (!sent.ok()) return sent;
  return fd;
}

absl::StatusOr<nlohmann::json> ResultOf(const std::string& line) {
  const nlohmann::json answer = nlohmann::json::parse(line, nullptr, false);
  const auto ok = answer.find("ok");
  if (!answer.is_object() || ok == answer.end() || !ok->is_boolean()) {
    return absl::DataLossError("the daemon's answer makes no sense");
  }
  if (ok->get<bool>()) {
    const auto result = answer.find("result");
    return result == answer.end() ? nlohmann::json() : *result;
  }
  const auto error = answer.find("error");
  return absl::FailedPreconditionError(
      error != answer.end() && error->is_string()
          ? error->get_ref<const std::string&>()
          : "the daemon refused without a reason");
}

}  // namespace

std::string ControlRunDir() {
  const char* dir = getenv("MIRRORFS_RUN_DIR");
  return dir != nullptr && *dir != '\0' ? dir : "/run/mirrorfs";
}

std::string ControlSocketPath(absl::string_view mirror_uuid) {
  return absl::StrCat(ControlRunDir(), "/", mirror_uuid, kSuffix);
}

std::vector<std::string> ListControlSockets(const std::string& run_dir) {
  std::vector<std::string> paths;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(run_dir.c_str()),
                                                closedir);
  if (dir == nullptr) return paths;
  while (const dirent* entry = readdir(dir.get())) {
    const absl::string_view name = entry->d_name;
    if (absl::EndsWith(name, kSuffix)) {
      paths.push_back(absl::StrCat(run_dir, "/", name));
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

absl::StatusOr<nlohmann::json> ControlCall(const std::string& socket_path,
                                           const nlohmann::json& request,
                                           absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const absl::StatusOr<UniqueFd> fd = Ask(socket_path, request, deadline);
  if (!fd.ok()) return fd.status();
  std::string received;
  absl::StatusOr<std::string> answer =
      ReceiveLine(fd->get(), deadline, &received);
  if (!answer.ok()) return answer.status();
  return ResultOf(*answer);
}

absl::Status ControlFollow(
    const std::string& socket_path, const nlohmann::json& request,
    absl::Duration timeout,
    const std::function<bool(const nlohmann::json&)>& on_line) {
  absl::Time deadline = absl::Now() + timeout;
  const absl::StatusOr<UniqueFd> fd = Ask(socket_path, request, deadline);
  if (!fd.ok()) return fd.status();
  std::string received;
  absl::StatusOr<std::string> line =
      ReceiveLine(fd->get(), deadline, &received);
  if (!line.ok()) return line.status();
  const absl::StatusOr<nlohmann::json> answer = ResultOf(*line);
  if (!answer.ok()) return answer.status();
  for (bool more = on_line(*answer); more;) {
    line = ReceiveLine(fd->get(), absl::InfiniteFuture(), &received);
    if (!line.ok()) return line.status();
    const nlohmann::json said = nlohmann::json::parse(*line, nullptr, false);
    if (!said.is_object()) {
      return absl::DataLossError("what the daemon says makes no sense");
    }
    more = on_line(said);
  }
  return absl::OkStatus();
}

}  // namespace mirrorfs
