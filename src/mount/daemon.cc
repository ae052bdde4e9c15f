// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/daemon.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "control/control_client.h"
#include "control/control_server.h"
#include "control/mirror_status.h"
#include "fuse/file_system.h"
#include "leg/new_mirror.h"
#include "mirror/assembly.h"
#include "mirror/log_setup.h"
#include "mirror/membership.h"
#include "mount/fuse_session.h"
#include "mount/leg_lock.h"
#include "mount/mount_point.h"
#include "mount/upkeep.h"
#include "recovery/recovery.h"

namespace mirrorfs {
namespace {

constexpr absl::Duration kTick = absl::Seconds(5);
constexpr absl::Duration kSettle = absl::Seconds(1);

// Tests shorten it.
absl::Duration TickPeriod() {
  const char* text = getenv("MIRRORFS_TICK_MS");
  const int ms = text == nullptr ? 0 : atoi(text);
  return ms > 0 ? absl::Milliseconds(ms) : kTick;
}

void PrepareProcess() {
  umask(0);
  // A leg's write may exceed our own limit of file size, and a client of the
  // control socket may go: both are errors, not deaths.
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
}

absl::Status CheckAgainstLabel(const Assembly& assembly,
                               const MountOptions& options) {
  const Label& label = assembly.label;
  if (options.region_bytes != 0 && options.region_bytes != label.region_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "region-size: the mirror was created with ", label.region_bytes));
  }
  if (!options.name.empty() && options.name != label.mirror_name) {
    return absl::InvalidArgumentError(absl::StrCat(
        "name: these are legs of mirror \"", label.mirror_name, "\""));
  }
  const int present = assembly.verdict.in_sync.size();
  if (present < options.min_legs) {
    return absl::FailedPreconditionError(absl::StrCat(
        "min-legs=", options.min_legs, ", but only ", present,
        present == 1 ? " leg is" : " legs are", " here and up to date"));
  }
  return absl::OkStatus();
}

bool AnyLabel(const std::vector<std::string>& legs) {
  for (const std::string& path : legs) {
    const absl::StatusOr<std::unique_ptr<Leg>> leg = Leg::Open(path);
    if (leg.ok() && !absl::IsNotFound(ReadLabel((*leg)->root_fd()).status())) {
      return true;
    }
  }
  return false;
}

absl::Status CreateIfWanted(const MountCommand& command) {
  if (!command.options.create || AnyLabel(command.legs)) {
    return absl::OkStatus();
  }
  NewMirrorOptions options;
  options.name = command.options.name;
  if (command.options.region_bytes != 0) {
    options.region_bytes = command.options.region_bytes;
  }
  return CreateMirror(command.legs, options).status();
}

// Legs that come up late (a USB disk, a network mount) are waited for.
absl::StatusOr<Assembly> AssembleWhenThere(const MountCommand& command) {
  const absl::Time deadline = absl::Now() + command.options.wait_legs;
  for (;;) {
    absl::StatusOr<Assembly> assembly = Assemble(
        command.legs, command.options.name, !command.options.read_only);
    const bool complete = assembly.ok() && assembly->notes.empty();
    if (complete || absl::Now() >= deadline) return assembly;
    absl::SleepFor(absl::Milliseconds(200));
  }
}

absl::StatusOr<ReadFrom> ReadFromOf(const ReadPolicy& policy,
                                    const Label& label, LegSlot* preferred) {
  switch (policy.kind) {
    case ReadPolicy::Kind::kPrimary:
      return ReadFrom::kPrimary;
    case ReadPolicy::Kind::kRoundRobin:
      return ReadFrom::kRoundRobin;
    case ReadPolicy::Kind::kPreferLeg:
      break;
  }
  for (const LabelMember& member : label.members) {
    if (member.name == policy.leg) *preferred = member.slot;
  }
  if (*preferred >= 0) return ReadFrom::kPrefer;
  return absl::InvalidArgumentError(
      absl::StrCat("read-policy: no leg is named \"", policy.leg, "\""));
}

// One mounted mirror. Members are destroyed in the reverse order of use.
class Daemon {
 public:
  explicit Daemon(const MountCommand& command) : command_(command) {}

  absl::Status Build();
  absl::Status Serve(std::function<void()> ready);

 private:
  absl::Status BuildLog();
  absl::Status BuildMirror();
  absl::Status StartControl();
  nlohmann::json AnswerControl(const nlohmann::json& request);
  absl::Status SetOptions(const nlohmann::json& options);
  void Tick();
  // The orderly end.
  absl::Status End();

  const MountCommand& command_;
  Assembly assembly_;
  LegLocks locks_;
  SystemClock clock_;
  std::unique_ptr<DirtyLog> log_;
  LabelLog label_log_;
  bool log_in_use_ = false;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<Mirror> mirror_;
  std::unique_ptr<FileSystem> fs_;
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Upkeep> settling_;
  std::unique_ptr<ControlServer> control_;
  MirrorFacts facts_;
};

absl::Status Daemon::Build() {
  if (absl::Status status = CheckLegPaths(command_.legs); !status.ok()) {
    return status;
  }
  if (absl::Status status = CreateIfWanted(command_); !status.ok()) {
    return status;
  }
  absl::StatusOr<Assembly> assembly = AssembleWhenThere(command_);
  if (!assembly.ok()) return assembly.status();
  assembly_ = *std::move(assembly);
  absl::Status status = CheckAgainstLabel(assembly_, command_.options);
  if (status.ok()) status = locks_.Take(assembly_.legs);
  for (const std::string& note : assembly_.notes) spdlog::warn("{}", note);
  if (status.ok()) status = BuildLog();
  if (status.ok()) status = BuildMirror();
  return status;
}

absl::Status Daemon::BuildLog() {
  const MountOptions& options = command_.options;
  WantedLog wanted = {options.log, options.log_dir};
  // Read-only, nothing is marked and nothing healed; the log stays as it is.
  if (options.read_only) {
    wanted = {"core", ""};
    assembly_.label.clean = true;
    assembly_.verdict.unaccounted = LegSet();
  }
  absl::StatusOr<ReadyLog> ready = SetUpLog(assembly_, wanted);
  if (!ready.ok()) {
    return absl::Status(ready.status().code(),
                        absl::StrCat("dirty log: ", ready.status().message()));
  }
  if (!ready->note.empty()) spdlog::warn("{}", ready->note);
  log_ = std::move(ready->log);
  label_log_ = ready->label_log;
  log_in_use_ = ready->in_use && !options.read_only;
  return absl::OkStatus();
}

absl::Status Daemon::BuildMirror() {
  const LabelVerdict& verdict = assembly_.verdict;
  MirrorSetup setup;
  setup.primary = verdict.primary;
  for (const LabelMember& member : assembly_.label.members) {
    setup.all |= LegSet::Of(member.slot);
  }
  const absl::StatusOr<ReadFrom> read_from = ReadFromOf(
      command_.options.read_policy, assembly_.label, &setup.preferred);
  if (!read_from.ok()) return read_from.status();
  // Read-only, the log is not consulted, so nobody knows what a leg lacks.
  setup.read_from =
      command_.options.read_only ? ReadFrom::kPrimary : *read_from;
  if (!command_.options.read_only) {
    setup.clock_lag_ns = assembly_.legs[verdict.primary]->ClockLagNs();
  }
  facts_ = {command_.mount_point, assembly_.paths, command_.options.read_only};

  setup.legs = &assembly_.legs;
  membership_ = std::make_unique<Membership>(assembly_.label, &assembly_.legs,
                                             verdict.primary, verdict.in_sync);
  mirror_ =
      std::make_unique<Mirror>(setup, log_.get(), membership_.get(), &clock_);
  membership_->SetLog(label_log_);
  membership_->SetAccounted(verdict.unaccounted - verdict.in_sync);
  if (!log_in_use_) return absl::OkStatus();
  mirror_->gate().AdoptDirty();
  return membership_->BeforeFirstChange();
}

absl::Status Daemon::StartControl() {
  absl::StatusOr<std::unique_ptr<ControlServer>> control = ControlServer::Start(
      ControlSocketPath(assembly_.label.mirror_uuid),
      [this](const nlohmann::json& request) { return AnswerControl(request); });
  if (!control.ok()) return control.status();
  control_ = *std::move(control);
  return absl::OkStatus();
}

nlohmann::json Daemon::AnswerControl(const nlohmann::json& request) {
  const std::string command = request.value("command", "");
  if (command == "status") {
    return OkAnswer(DescribeMirror(*mirror_, recovery_->progress(), facts_));
  }
  if (command == "dirty") return OkAnswer(DescribeDirtyRegions(*mirror_));
  if (command == "set") {
    const absl::Status status =
        SetOptions(request.value("options", nlohmann::json()));
    return status.ok() ? OkAnswer() : ErrorAnswer(status.message());
  }
  return ErrorAnswer(absl::StrCat("unknown command \"", command, "\""));
}

absl::Status Daemon::SetOptions(const nlohmann::json& options) {
  if (!options.is_object()) {
    return absl::InvalidArgumentError("set: \"options\" must be an object");
  }
  for (const auto& [name, value] : options.items()) {
    if (name != "read-policy" || !value.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": cannot be changed while mounted"));
    }
    const absl::StatusOr<MountOptions> parsed = ParseMountOptions(
        {absl::StrCat("read-policy=", value.get<std::string>())}, false);
    if (!parsed.ok()) return parsed.status();
    LegSlot preferred = -1;
    const absl::StatusOr<ReadFrom> read_from =
        ReadFromOf(parsed->read_policy, assembly_.label, &preferred);
    if (!read_from.ok()) return read_from.status();
    if (!command_.options.read_only) {
      mirror_->SetReadFrom(*read_from, preferred);
    }
  }
  return absl::OkStatus();
}

void Daemon::Tick() {
  mirror_->gate().Tick();
  mirror_->ClearIdle(/*all=*/false, [this] { fs_->SettleOpenFiles(); });
}

absl::Status Daemon::Serve(std::function<void()> ready) {
  FileSystemOptions fs_options;
  fs_options.attr_timeout = command_.options.attr_timeout;
  fs_options.entry_timeout = command_.options.entry_timeout;
  fs_options.negative_timeout = command_.options.negative_timeout;
  fs_options.writeback_cache = command_.options.cache == CacheMode::kWriteBack;
  fs_options.direct_io = command_.options.cache == CacheMode::kNone;
  fs_options.acls = mirror_->primary().HasAcls();
  const auto settle = [this] { fs_->SettleOpenFiles(); };
  fs_ = std::make_unique<FileSystem>(mirror_.get(), fs_options, [&] {
    RaiseReadAhead(command_.mount_point);
    spdlog::info("mirror \"{}\" is mounted at {}", assembly_.label.mirror_name,
                 command_.mount_point);
    ready();
  });
  recovery_ = std::make_unique<Recovery>(mirror_.get(), settle);
  mirror_->SetWorkListener([this] { recovery_->Wake(); });
  if (absl::Status status = StartControl(); !status.ok()) return status;
  absl::Status served;
  {
    FuseSession session;
    served = session.Mount(command_, fs_.get());
    if (!served.ok()) return served;
    if (!command_.options.read_only) {
      recovery_->Start();
      upkeep_ = std::make_unique<Upkeep>(TickPeriod(), [this] { Tick(); });
      settling_ = std::make_unique<Upkeep>(std::min(kSettle, TickPeriod()),
                                           [this] { mirror_->SettleDirs(); });
    }
    served = session.Serve(command_.options.threads);
  }
  // The mount is gone; a signal that comes now must not cut the end short.
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) signal(number, SIG_IGN);
  const absl::Status ended = End();
  control_->Stop();
  return served.ok() ? ended : served;
}

absl::Status Daemon::End() {
  if (command_.options.read_only) return absl::OkStatus();
  recovery_->Stop();
  settling_->Stop();
  upkeep_->Stop();
  mirror_->ClearIdle(/*all=*/true, [this] { fs_->SettleOpenFiles(); });
  const DirtyLog::SyncCount count = log_->GetSyncCount(mirror_->all());
  const bool empty = count.regions == 0 && count.dirty == 0;
  if (!empty && label_log_.type == "core") {
    absl::StatusOr<LabelLog> saved = SaveLog(assembly_, *log_);
    if (!saved.ok()) return saved.status();
    membership_->SetLog(*saved);
  }
  absl::Status status = log_->Postsuspend();
  if (status.ok()) status = membership_->Stop(empty);
  if (status.ok()) {
    spdlog::info("mirror \"{}\" ended in order", assembly_.label.mirror_name);
  }
  return status;
}

}  // namespace

absl::Status RunDaemon(const MountCommand& command,
                       std::function<void()> ready) {
  PrepareProcess();
  Daemon daemon(command);
  if (absl::Status status = daemon.Build(); !status.ok()) return status;
  return daemon.Serve(std::move(ready));
}

}  // namespace mirrorfs
