// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/control_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/thread.h"
#include "control/socket_address.h"

namespace mirrorfs {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kBacklog = 64;
constexpr size_t kReadBytes = 16384;

enum class Wait { kReady, kTimeout, kStop };

int MillisecondsUntil(SteadyClock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - SteadyClock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

Wait WaitFor(int fd, short events, int stop_fd, int timeout_ms) {
  const SteadyClock::time_point deadline =
      SteadyClock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    pollfd fds[] = {{fd, events, 0}, {stop_fd, POLLIN, 0}};
    const int ready =
        poll(fds, 2, timeout_ms < 0 ? -1 : MillisecondsUntil(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || fds[1].revents != 0) return Wait::kStop;
    return ready == 0 ? Wait::kTimeout : Wait::kReady;
  }
}

// False when the client is gone or does not take it in time.
bool SendAll(int fd, absl::string_view bytes, int stop_fd, int timeout_ms) {
  const SteadyClock::time_point deadline =
      SteadyClock::now() + std::chrono::milliseconds(timeout_ms);
  while (!bytes.empty()) {
    const ssize_t sent =
        send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(sent);
    } else if (errno == EAGAIN) {
      if (WaitFor(fd, POLLOUT, stop_fd, MillisecondsUntil(deadline)) !=
          Wait::kReady) {
        return false;
      }
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

// Names on a leg are bytes; what is not UTF-8 must not fail the answer.
std::string ToLine(const nlohmann::json& answer) {
  return answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

absl::Status MakeDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos || slash == 0) return absl::OkStatus();
  const std::string directory = path.substr(0, slash);
  if (mkdir(directory.c_str(), 0755) == 0 || errno == EEXIST) {
    return absl::OkStatus();
  }
  return ToStatus(Errno::Last(), directory);
}

UniqueFd NewSocket() {
  return UniqueFd(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

bool SomeoneAnswers(const SocketAddress& address) {
  const UniqueFd probe = NewSocket();
  if (!probe.valid()) return true;
  // EAGAIN is a living listener whose queue is full.
  return connect(probe.get(), address.address(), address.size()) == 0 ||
         errno == EAGAIN;
}

}  // namespace

nlohmann::json OkAnswer() { return {{"ok", true}}; }

nlohmann::json OkAnswer(nlohmann::json result) {
  return {{"ok", true}, {"result", std::move(result)}};
}

nlohmann::json ErrorAnswer(absl::string_view one_line) {
  return {{"ok", false}, {"error", std::string(one_line)}};
}

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(
    const std::string& path, Handler handler, ControlLimits limits,
    Watchdog* watchdog) {
  std::unique_ptr<ControlServer> server(
      new ControlServer(path, std::move(handler), limits, watchdog));
  absl::Status status = server->Listen();
  if (!status.ok()) return status;
  server->accept_thread_ =
      StartThread("control", [&s = *server] { s.AcceptLoop(); });
  return server;
}

ControlServer::ControlServer(std::string path, Handler handler,
                             ControlLimits limits, Watchdog* watchdog)
    : path_(std::move(path)),
      handler_(std::move(handler)),
      limits_(limits),
      watchdog_(watchdog) {}

ControlServer::~ControlServer() { Stop(); }

void ControlServer::Stop() {
  RemoveOwnFile();
  EndConnections();
}

void ControlServer::EndConnections() {
  if (!accept_thread_.joinable()) return;
  const uint64_t one = 1;
  // Cannot fail: the counter is far from full.
  if (write(stop_event_.get(), &one, sizeof(one)) < 0) std::terminate();
  accept_thread_.join();
}

absl::Status ControlServer::Listen() {
  stop_event_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  listener_ = NewSocket();
  if (!stop_event_.valid() || !listener_.valid()) {
    return ToStatus(Errno::Last(), "control socket");
  }
  absl::Status status = MakeDirectoryOf(path_);
  if (!status.ok()) return status;
  status = Bind();
  if (!status.ok()) return status;
  // Nobody can connect before listen(), so the mode is never too wide.
  struct stat st;
  if (chmod(path_.c_str(), 0600) != 0 || stat(path_.c_str(), &st) != 0) {
    return ToStatus(Errno::Last(), path_);
  }
  bound_ = true;
  file_dev_ = st.st_dev;
  file_ino_ = st.st_ino;
  if (listen(listener_.get(), kBacklog) != 0) {
    return ToStatus(Errno::Last(), path_);
  }
  return absl::OkStatus();
}

absl::Status ControlServer::Bind() {
  absl::StatusOr<SocketAddress> address = SocketAddress::Of(path_);
  if (!address.ok()) return address.status();
  const auto bind_now = [&] {
    return bind(listener_.get(), address->address(), address->size()) == 0;
  };
  if (bind_now()) return absl::OkStatus();
  if (errno != EADDRINUSE) return ToStatus(Errno::Last(), path_);

  struct stat st;
  if (lstat(path_.c_str(), &st) == 0 && !S_ISSOCK(st.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path_, ": is not a socket; remove it"));
  }
  if (SomeoneAnswers(*address)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path_, ": another daemon serves this mirror"));
  }
  unlink(path_.c_str());
  return bind_now() ? absl::OkStatus() : ToStatus(Errno::Last(), path_);
}

void ControlServer::RemoveOwnFile() {
  if (!bound_) return;
  bound_ = false;
  struct stat st;
  if (lstat(path_.c_str(), &st) == 0 && st.st_dev == file_dev_ &&
      st.st_ino == file_ino_) {
    unlink(path_.c_str());
  }
}

void ControlServer::AcceptLoop() {
  while (WaitFor(listener_.get(), POLLIN, stop_event_.get(), -1) !=
         Wait::kStop) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr,
                        SOCK_CLOEXEC | SOCK_NONBLOCK));
    JoinFinished();
    if (fd.valid()) {
      Welcome(std::move(fd));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      // The caller stays in the queue; do not spin until there is room.
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  listener_.Reset();
  connections_.clear();
}

void ControlServer::Welcome(UniqueFd fd) {
  if (connections_.size() >= static_cast<size_t>(limits_.connections_max)) {
    SendAll(fd.get(), ToLine(ErrorAnswer("too many connections")),
            stop_event_.get(), 0);
    return;
  }
  Connection& connection = connections_.emplace_back();
  connection.fd = std::move(fd);
  try {
    connection.fiber = Fiber(watchdog_, "control", [this, &connection] {
      Serve(connection.fd.get());
      // The client need not wait for the join to see the end.
      shutdown(connection.fd.get(), SHUT_RDWR);
      connection.done = true;
    });
  } catch (const std::exception&) {
    connections_.pop_back();  // no thread to be had: the client sees the end
  }
}

void ControlServer::JoinFinished() {
  connections_.remove_if([](Connection& connection) {
    if (!connection.done) return false;
    connection.fiber.Join();
    return true;
  });
}

void ControlServer::Serve(int fd) {
  std::string received;
  SteadyClock::time_point deadline;
  for (;;) {
    const bool waiting = received.empty();
    const int timeout_ms =
        waiting ? limits_.idle_ms : MillisecondsUntil(deadline);
    if (WaitFor(fd, POLLIN, stop_event_.get(), timeout_ms) != Wait::kReady) {
      return;
    }
    char buffer[kReadBytes];
    const ssize_t got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) return;
    if (waiting) {
      deadline =
          SteadyClock::now() + std::chrono::milliseconds(limits_.transfer_ms);
    }
    received.append(buffer, got);
    if (!AnswerLines(fd, &received, got == 0) || got == 0) return;
  }
}

// Answers the complete lines in `received` and removes them. A last line may
// lack its end. False when the connection is done for.
bool ControlServer::AnswerLines(int fd, std::string* received, bool at_end) {
  if (at_end && !received->empty()) *received += '\n';
  size_t begin = 0;
  for (size_t end; (end = received->find('\n', begin)) != received->npos;
       begin = end + 1) {
    const absl::string_view line(received->data() + begin, end - begin);
    const ControlAnswer answer = AnswerLine(line);
    const auto give_back = absl::MakeCleanup([&] {
      if (answer.stream != nullptr) --streams_;
    });
    if (!SendAll(fd, ToLine(answer.line), stop_event_.get(),
                 limits_.transfer_ms)) {
      return false;
    }
    if (answer.stream != nullptr) {
      Stream(fd, *answer.stream);
      return false;
    }
  }
  received->erase(0, begin);
  if (received->size() <= limits_.request_bytes_max) return true;
  SendAll(fd, ToLine(ErrorAnswer("request too long")), stop_event_.get(), 0);
  return false;
}

ControlAnswer ControlServer::AnswerLine(absl::string_view line) {
  if (line.size() > limits_.request_bytes_max) {
    return ErrorAnswer("request too long");
  }
  try {
    const nlohmann::json request =
        nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!request.is_object()) {
      return ErrorAnswer("not a JSON object on one line");
    }
    ControlAnswer answer = handler_(request);
    // Counted at once, or two that come together would both be the last.
    if (answer.stream != nullptr && ++streams_ > limits_.streams_max) {
      --streams_;
      return ErrorAnswer("too many are following already");
    }
    return answer;
  } catch (const std::exception& error) {
    return ErrorAnswer(absl::StrCat("internal error: ", error.what()));
  }
}

// Until the client is gone, does not take its lines in time, or the daemon
// ends; then what was said last still goes out, as far as there is room.
void ControlServer::Stream(int fd, ControlStream& stream) {
  for (bool going_on = true; going_on;) {
    pollfd fds[] = {{fd, POLLIN, 0},
                    {stream.ready_fd(), POLLIN, 0},
                    {stop_event_.get(), POLLIN, 0}};
    if (poll(fds, 3, -1) < 0 && errno != EINTR) break;
    going_on = fds[0].revents == 0 && fds[2].revents == 0;
    if (fds[0].revents != 0) break;
    for (const nlohmann::json& line : stream.Take()) {
      if (!SendAll(fd, ToLine(line), stop_event_.get(), limits_.transfer_ms)) {
        going_on = false;
        break;
      }
    }
  }
}

}  // namespace mirrorfs
