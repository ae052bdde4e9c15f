// SPDX-License-Identifier: GPL-2.0-or-later
//
// libfuse, at the newest interface that the installed library has.
#pragma once

#ifndef FUSE_USE_VERSION
#error "FUSE_USE_VERSION comes from the build"
#endif

#include <fuse_lowlevel.h>
