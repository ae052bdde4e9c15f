// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

namespace mirrorfs {

// A place where a test may want the process to die, or one thread to wait while
// others go on, by name. With MIRRORFS_KILL_AT=NAME:COUNT in the environment
// the COUNTth passage kills the process as SIGKILL would. With
// MIRRORFS_HOLD_AT=NAME:FILE who comes by while FILE exists makes FILE.reached
// and waits until FILE is gone. Compiled away with NDEBUG.
#ifdef NDEBUG
inline void KillPoint(const char*) {}
#else
void KillPoint(const char* name);
#endif

}  // namespace mirrorfs
