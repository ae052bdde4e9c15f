// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the daemon answers on its control socket, a function for each command;
// docs/control-protocol.md says what is spoken.
#pragma once

#include "control/control_server.h"
#include "control/dirty_bytes.h"
#include "control/event_log.h"
#include "control/mirror_status.h"
#include "mirror/leg_probe.h"
#include "mirror/mirror.h"
#include "mount/leg_admin.h"
#include "mount/live_options.h"
#include "recovery/recovery.h"

namespace mirrorfs {

// What the commands work on; all of it outlives the control server.
struct ControlledMirror {
  Mirror* mirror = nullptr;
  const Recovery* recovery = nullptr;
  EventLog* events = nullptr;
  LiveOptions* options = nullptr;
  DirtyBytes* dirty_bytes = nullptr;
  LegProbe* probe = nullptr;
  LegAdmin* legs = nullptr;
  MirrorFacts facts;  // without the legs' paths
};

ControlAnswer AnswerControl(const ControlledMirror& on,
                            const nlohmann::json& request);

}  // namespace mirrorfs
