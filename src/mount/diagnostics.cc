// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/diagnostics.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace mirrorfs {
namespace {

const char* DiagnosticsFile() { return getenv("MIRRORFS_DIAG"); }

// What stands before each line. syslog adds the rest by itself.
std::string LinePrefix(bool foreground) {
  if (DiagnosticsFile() != nullptr) return "[%Y-%m-%d %T.%e] mirrorfs: %l: ";
  return foreground ? "mirrorfs: %l: " : "";
}

// What is said, on one line: names of files may hold what begins another.
class OneLine final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& line) override {
    for (const char c : message.payload) {
      const std::string shown =
          absl::ascii_iscntrl(static_cast<unsigned char>(c))
              ? absl::StrCat("\\x", absl::Hex(static_cast<unsigned char>(c),
                                              absl::kZeroPad2))
              : std::string(1, c);
      line.append(shown.data(), shown.data() + shown.size());
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<OneLine>();
  }
};

// Leaves out warnings that were given lately: an application that tries and
// tries to write to a full mirror shall not fill the journal, too. (spdlog's
// own filter knows the last line only, and here two may take turns.)
class RepeatFilter final : public spdlog::sinks::dist_sink_mt {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (message.level >= spdlog::level::warn && IsRepeated(message)) return;
    spdlog::sinks::dist_sink_mt::sink_it_(message);
  }

 private:
  using Time = spdlog::log_clock::time_point;
  static constexpr std::chrono::seconds kRepeatedAfter{10};

  bool IsRepeated(const spdlog::details::log_msg& message) {
    const Time before = message.time - kRepeatedAfter;
    absl::erase_if(said_, [&](const auto& one) { return one.second < before; });
    const std::string text(message.payload.data(), message.payload.size());
    return !said_.emplace(text, message.time).second;
  }

  absl::flat_hash_map<std::string, Time> said_;
};

std::unique_ptr<spdlog::formatter> Formatter(absl::string_view prefix) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<OneLine>('*').set_pattern(absl::StrCat(prefix, "%*"));
  return formatter;
}

spdlog::sink_ptr MakeSink(bool foreground) {
  if (const char* file = DiagnosticsFile()) {
    return std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
  }
  if (foreground) return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  return std::make_shared<spdlog::sinks::syslog_sink_mt>(
      "mirrorfs", LOG_PID, LOG_USER, /*enable_formatting=*/true);
}

}  // namespace

void SetUpDiagnostics(bool foreground) {
  const auto filter = std::make_shared<RepeatFilter>();
  filter->add_sink(MakeSink(foreground));
  const auto logger = std::make_shared<spdlog::logger>("mirrorfs", filter);
  logger->set_formatter(Formatter(LinePrefix(foreground)));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void NameMirrorInDiagnostics(bool foreground, absl::string_view mirror) {
  const std::string name = absl::StrReplaceAll(mirror, {{"%", "%%"}});
  spdlog::set_formatter(
      Formatter(absl::StrCat(LinePrefix(foreground), name, ": ")));
}

}  // namespace mirrorfs
