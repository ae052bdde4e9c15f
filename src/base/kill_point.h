// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

namespace mirrorfs {

// A place where a crash test may want the process to die, by name. With
// MIRRORFS_KILL_AT=NAME:COUNT in the environment the COUNTth passage kills the
// process as SIGKILL would. Compiled away with NDEBUG.
#ifdef NDEBUG
inline void KillPoint(const char*) {}
#else
void KillPoint(const char* name);
#endif

}  // namespace mirrorfs
