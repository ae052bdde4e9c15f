// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/diagnostics.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <memory>
#include <string>

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

std::unique_ptr<spdlog::formatter> Formatter(absl::string_view prefix) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<OneLine>('*').set_pattern(absl::StrCat(prefix, "%*"));
  return formatter;
}

}  // namespace

void SetUpDiagnostics(bool foreground) {
  std::shared_ptr<spdlog::logger> logger;
  if (const char* file = DiagnosticsFile()) {
    logger = spdlog::basic_logger_mt("mirrorfs", file);
  } else if (foreground) {
    logger = spdlog::stderr_logger_mt("mirrorfs");
  } else {
    logger = spdlog::syslog_logger_mt("mirrorfs", "mirrorfs", LOG_PID, LOG_USER,
                                      /*enable_formatting=*/true);
  }
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
