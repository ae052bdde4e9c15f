// SPDX-License-Identifier: GPL-2.0-or-later
//
// The daemon's end of the control socket; docs/control-protocol.md is what is
// spoken on it. One JSON line in, one JSON line out; or more lines out, when
// something is followed.
//
// Each connection has a fiber of its own, so that a client that is slow,
// stuck or half gone costs nobody an answer, and each has deadlines, so that
// it goes away in the end.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "control/control_stream.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// The two forms of an answer.
nlohmann::json OkAnswer();
nlohmann::json OkAnswer(nlohmann::json result);
nlohmann::json ErrorAnswer(absl::string_view one_line);

// What a request leads to: one line, and perhaps more as they come. Whatever
// the client says then, its end included, ends the stream.
struct ControlAnswer {
  ControlAnswer(nlohmann::json line) : line(std::move(line)) {}
  ControlAnswer(nlohmann::json line, std::unique_ptr<ControlStream> stream)
      : line(std::move(line)), stream(std::move(stream)) {}

  nlohmann::json line;
  std::unique_ptr<ControlStream> stream;
};

struct ControlLimits {
  int connections_max = 32;
  int streams_max = 16;  // so that those who ask find a place
  size_t request_bytes_max = size_t{1} << 20;
  int idle_ms = 60'000;      // nothing was asked for that long
  int transfer_ms = 10'000;  // a request or an answer takes that long
};

class ControlServer {
 public:
  // Answers one request, which is always an object. Called from several
  // threads at once; must answer in bounded time whatever the legs do, since
  // Stop waits for it.
  using Handler = std::function<ControlAnswer(const nlohmann::json& request)>;

  // Listens at `path` (mode 0600; its directory is made if need be) and
  // answers from then on. The file that a killed daemon left is replaced;
  // AlreadyExists when a living one answers there. Starts threads: call it
  // after any fork. With a watchdog, the handler is called on fibers.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(
      const std::string& path, Handler handler, ControlLimits limits = {},
      Watchdog* watchdog = nullptr);

  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();

  // Ends all connections; the handler is not called any more after it.
  void EndConnections();
  // And removes the socket's file. Do that last: clients take a file that is
  // gone for an orderly end, and one that is still there after the daemon's end
  // as the sign of a crash. Both may be called again, from one thread.
  void Stop();

 private:
  struct Connection {
    UniqueFd fd;
    std::atomic<bool> done{false};
    Fiber fiber;
  };

  ControlServer(std::string path, Handler handler, ControlLimits limits,
                Watchdog* watchdog);

  absl::Status Listen();
  absl::Status Bind();
  void RemoveOwnFile();
  void AcceptLoop();
  void Welcome(UniqueFd fd);
  void JoinFinished();
  void Serve(int fd);
  bool AnswerLines(int fd, std::string* received, bool at_end);
  ControlAnswer AnswerLine(absl::string_view line);
  void Stream(int fd, ControlStream& stream);

  const std::string path_;
  const Handler handler_;
  const ControlLimits limits_;
  Watchdog* const watchdog_;
  UniqueFd stop_event_;
  UniqueFd listener_;
  // Which file is ours, since another daemon may have replaced it.
  bool bound_ = false;
  dev_t file_dev_ = 0;
  ino_t file_ino_ = 0;
  std::atomic<int> streams_{0};
  std::list<Connection> connections_;  // the accept thread's
  std::thread accept_thread_;
};

}  // namespace mirrorfs
