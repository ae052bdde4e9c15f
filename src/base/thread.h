// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <signal.h>

#include <functional>
#include <string>
#include <thread>

namespace mirrorfs {

// Does nothing but interrupt a system call. All threads let it through.
inline constexpr int kWakeSignal = SIGURG;

// A thread that has a name (ps shows 15 characters) and takes no signals: those
// are for whoever waits for them. std::system_error when there is none to be
// had.
std::thread StartThread(const std::string& name, std::function<void()> body);

}  // namespace mirrorfs
