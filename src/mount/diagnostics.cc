// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/diagnostics.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <memory>
#include <string>

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
  logger->set_pattern(absl::StrCat(LinePrefix(foreground), "%v"));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void NameMirrorInDiagnostics(bool foreground, absl::string_view mirror) {
  const std::string name = absl::StrReplaceAll(mirror, {{"%", "%%"}});
  spdlog::set_pattern(absl::StrCat(LinePrefix(foreground), name, ": %v"));
}

}  // namespace mirrorfs
