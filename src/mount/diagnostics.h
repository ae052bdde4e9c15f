// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/strings/string_view.h"

namespace mirrorfs {

// Where diagnostics go: standard error in the foreground, else syslog, or for
// tests the file that MIRRORFS_DIAG names.
void SetUpDiagnostics(bool foreground);

// From now on every line names the mirror: several may say something in one
// journal.
void NameMirrorInDiagnostics(bool foreground, absl::string_view mirror);

}  // namespace mirrorfs
