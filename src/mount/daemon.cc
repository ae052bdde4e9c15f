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
#include "base/fiber.h"
#include "control/control_client.h"
#include "control/control_server.h"
#include "control/dirty_bytes.h"
#include "control/event_log.h"
#include "control/hook_runner.h"
#include "control/mirror_status.h"
#include "fuse/file_system.h"
#include "mirror/assembly.h"
#include "mirror/leg_probe.h"
#include "mirror/leg_table.h"
#include "mirror/log_setup.h"
#include "mirror/membership.h"
#include "mount/control_commands.h"
#include "mount/diagnostics.h"
#include "mount/fuse_session.h"
#include "mount/gather_legs.h"
#include "mount/leg_admin.h"
#include "mount/leg_lock.h"
#include "mount/live_options.h"
#include "mount/mount_point.h"
#include "mount/service_notifier.h"
#include "mount/upkeep.h"
#include "recovery/recovery.h"

namespace mirrorfs {
namespace {

constexpr absl::Duration kTick = absl::Seconds(5);
constexpr absl::Duration kSettle = absl::Seconds(1);
constexpr absl::Duration kLettingGo = absl::Seconds(1);

// Of the service manager that waits for us, if one does: who runs mount(8) from
// a service must not be taken for the service.
std::string NotifySocket(bool foreground) {
  const char* socket = getenv("NOTIFY_SOCKET");
  return foreground && socket != nullptr ? socket : "";
}

// Tests shorten it.
absl::Duration TickPeriod() {
  const char* text = getenv("MIRRORFS_TICK_MS");
  const int ms = text == nullptr ? 0 : atoi(text);
  return ms > 0 ? absl::Milliseconds(ms) : kTick;
}

// The limits of the shell that mounts are not meant for everybody's files.
void RaiseLimits() {
  const rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  const bool lifted = setrlimit(RLIMIT_FSIZE, &unlimited) == 0;
  for (const auto resource : {RLIMIT_NOFILE, RLIMIT_FSIZE}) {
    rlimit limit;
    if (getrlimit(resource, &limit) != 0) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
    if (resource == RLIMIT_FSIZE && !lifted &&
        limit.rlim_max != RLIM_INFINITY) {
      spdlog::warn(
          "files are limited to {} bytes: the limit of whoever "
          "mounted cannot be lifted without CAP_SYS_RESOURCE",
          limit.rlim_max);
    }
  }
}

void PrepareProcess() {
  umask(0);
  // A leg's write may exceed our own limit of file size, and a client of the
  // control socket may go: both are errors, not deaths.
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  RaiseLimits();
}

ReadFrom ReadFromOf(const ReadPolicy& policy) {
  switch (policy.kind) {
    case ReadPolicy::Kind::kPrimary:
      return ReadFrom::kPrimary;
    case ReadPolicy::Kind::kRoundRobin:
      return ReadFrom::kRoundRobin;
    case ReadPolicy::Kind::kLeastPending:
      return ReadFrom::kLeastPending;
    case ReadPolicy::Kind::kPreferLeg:
      break;
  }
  return ReadFrom::kPrefer;
}

absl::StatusOr<LegSlot> SlotOf(const std::string& leg, const Label& label,
                               const char* option) {
  for (const LabelMember& member : label.members) {
    if (member.name == leg) return member.slot;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(option, ": no leg is named \"", leg, "\""));
}

absl::StatusOr<ReadRules> ReadRulesOf(const MountOptions& options,
                                      const Label& label) {
  ReadRules rules;
  // Read-only, the log is not consulted, so nobody knows what a leg lacks; but
  // what is said must be right all the same.
  rules.from = ReadFromOf(options.read_policy);
  if (rules.from == ReadFrom::kPrefer) {
    const absl::StatusOr<LegSlot> slot =
        SlotOf(options.read_policy.leg, label, "read-policy");
    if (!slot.ok()) return slot.status();
    rules.preferred = *slot;
  }
  for (const std::string& leg : options.write_mostly) {
    const absl::StatusOr<LegSlot> slot = SlotOf(leg, label, "write-mostly");
    if (!slot.ok()) return slot.status();
    rules.write_mostly |= LegSet::Of(*slot);
  }
  return options.read_only ? ReadRules() : rules;
}

OnEnospc OnEnospcOf(const MountOptions& options) {
  return options.on_enospc_degrade ? OnEnospc::kDegrade : OnEnospc::kFail;
}

// Does it where a leg that hangs hinders nobody for ever.
absl::Status OnFiber(Watchdog* watchdog,
                     const std::function<absl::Status()>& work) {
  absl::Status status;
  Fiber(watchdog, "mirrorfs", [&] { status = work(); }).Join();
  return status;
}

// One mounted mirror. Members are destroyed in the reverse order of use.
class Daemon {
 public:
  Daemon(const MountCommand& command, Watchdog* watchdog)
      : command_(command), watchdog_(watchdog) {}
  // A leg may begin to hang at the very end; who fails it then uses much of
  // what goes before the mirror does.
  ~Daemon() {
    if (mirror_ != nullptr) mirror_->StopListening();
  }

  // These, and the destructor, ask the legs: to be called on a fiber.
  absl::Status Build();
  absl::Status Start(std::function<void()> ready);
  // To be called in the thread that takes the signals. Ends in order.
  absl::Status Serve();
  std::unique_ptr<ControlServer> TakeControl() { return std::move(control_); }

 private:
  absl::Status BuildLog();
  absl::Status BuildMirror();
  absl::Status StartControl();
  // What was wrong with the set of legs from the start.
  void PostStart();
  void BuildOptions();
  absl::Status CheckOptions(const MountOptions& options) const;
  void ApplyOptions(const MountOptions& options);
  void Tick();
  void TellServiceManager();
  absl::Status End();
  absl::Status SaveWhatIsLeft();

  MountCommand command_;
  Watchdog* const watchdog_;
  LegTargets targets_;
  Assembly assembly_;
  SystemClock clock_;
  std::unique_ptr<LegTable> legs_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<DirtyLog> log_;
  LabelLog label_log_;
  bool log_in_use_ = false;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<Mirror> mirror_;
  std::unique_ptr<LegProbe> probe_;
  std::unique_ptr<LegAdmin> admin_;
  std::unique_ptr<DirtyBytes> dirty_bytes_;
  std::unique_ptr<FileSystem> fs_;
  std::unique_ptr<Pacer> pacer_;
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Upkeep> probing_;
  std::unique_ptr<LiveOptions> options_;
  std::unique_ptr<HookRunner> hooks_;
  std::unique_ptr<ServiceNotifier> notifier_;
  std::unique_ptr<Upkeep> settling_;
  std::unique_ptr<Upkeep> letting_go_;
  MirrorFacts facts_;
  std::unique_ptr<ControlServer> control_;
};

absl::Status Daemon::Build() {
  absl::StatusOr<Assembly> assembly = GatherLegs(command_, targets_);
  if (!assembly.ok()) return assembly.status();
  assembly_ = *std::move(assembly);
  NameMirrorInDiagnostics(command_.options.foreground,
                          assembly_.label.mirror_name);
  for (const std::string& note : assembly_.notes) spdlog::warn("{}", note);
  const absl::Status status = BuildLog();
  return status.ok() ? BuildMirror() : status;
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
  assembly_.verdict.primary = ready->primary;
  log_in_use_ = ready->in_use && !options.read_only;
  return absl::OkStatus();
}

absl::Status Daemon::BuildMirror() {
  const LabelVerdict& verdict = assembly_.verdict;
  MirrorSetup setup;
  LegSet all;
  for (const LabelMember& member : assembly_.label.members) {
    all |= LegSet::Of(member.slot);
  }
  const absl::StatusOr<ReadRules> reading =
      ReadRulesOf(command_.options, assembly_.label);
  if (!reading.ok()) return reading.status();
  setup.reading = *reading;
  if (!command_.options.read_only) {
    // Any of them may become the primary.
    verdict.present.ForEach([&](LegSlot slot) {
      setup.clock_lag_ns =
          std::max(setup.clock_lag_ns, assembly_.legs[slot]->ClockLagNs());
    });
  }
  setup.read_only = command_.options.read_only;
  events_ = std::make_unique<EventLog>(assembly_.label.mirror_name, &clock_);
  facts_ = {command_.mount_point, {}, command_.options.read_only};

  legs_ = std::make_unique<LegTable>(std::move(assembly_.legs), all,
                                     verdict.primary);
  for (const LabelMember& member : assembly_.label.members) {
    legs_->SetReason(member.slot, assembly_.reasons[member.slot]);
    if (member.offline) legs_->SetDown(member.slot, LegState::kOffline);
  }
  setup.legs = legs_.get();
  setup.watchdog = watchdog_;
  setup.on_enospc = OnEnospcOf(command_.options);
  membership_ = std::make_unique<Membership>(assembly_.label, legs_.get(),
                                             verdict.in_sync, &clock_);
  if (!command_.options.read_only) membership_->BeginUse();
  mirror_ =
      std::make_unique<Mirror>(setup, log_.get(), membership_.get(), &clock_);
  dirty_bytes_ = std::make_unique<DirtyBytes>(mirror_.get(), watchdog_);
  mirror_->SetEvents(events_.get());
  membership_->SetLog(label_log_);
  membership_->SetAccounted(verdict.unaccounted - verdict.in_sync);
  if (label_log_.type == "disk") {
    mirror_->SetLogMover([this](const Leg& to, const auto& note) {
      return MoveLog(to, *log_, note);
    });
  }
  probe_ = std::make_unique<LegProbe>(mirror_.get(), &targets_, assembly_.paths,
                                      [](Leg& leg) { return LockLeg(leg); });
  admin_ = std::make_unique<LegAdmin>(mirror_.get(), probe_.get(),
                                      command_.mount_point,
                                      command_.options.read_only);
  PostStart();
  if (!log_in_use_) return absl::OkStatus();
  mirror_->gate().AdoptDirty();
  return membership_->NameLog().empty()
             ? absl::OkStatus()
             : absl::UnavailableError("a leg's label cannot be written");
}

void Daemon::PostStart() {
  const LegSet in_sync = assembly_.verdict.in_sync;
  for (const LabelMember& member : assembly_.label.members) {
    if (assembly_.verdict.present.has(member.slot)) continue;
    if (member.offline) continue;
    const std::string& path = assembly_.paths[member.slot];
    events_->Post(EventName::kLegMissing, member.name,
                  path.empty() ? "no path was given for it" : path);
  }
  const size_t members = assembly_.label.members.size();
  if (static_cast<size_t>(in_sync.size()) == members) return;
  events_->Post(EventName::kDegraded, "",
                absl::StrCat("mounted with ", in_sync.size(), " of ", members,
                             " legs up to date"));
}

void Daemon::BuildOptions() {
  // In words that say what is in force, also where it was not chosen.
  MountOptions options = command_.options;
  options.name = assembly_.label.mirror_name;
  options.region_bytes = assembly_.label.region_bytes;
  options_ = std::make_unique<LiveOptions>(
      options, [this](const MountOptions& o) { return CheckOptions(o); },
      [this](const MountOptions& o) { ApplyOptions(o); });
  ApplyOptions(options);
}

absl::Status Daemon::StartControl() {
  const ControlledMirror on = {
      mirror_.get(),      recovery_.get(), events_.get(), options_.get(),
      dirty_bytes_.get(), probe_.get(),    admin_.get(),  facts_};
  absl::StatusOr<std::unique_ptr<ControlServer>> control = ControlServer::Start(
      ControlSocketPath(assembly_.label.mirror_uuid),
      [on](const nlohmann::json& request) {
        return AnswerControl(on, request);
      },
      ControlLimits(), watchdog_);
  if (!control.ok()) return control.status();
  control_ = *std::move(control);
  return absl::OkStatus();
}

absl::Status Daemon::CheckOptions(const MountOptions& options) const {
  return ReadRulesOf(options, membership_->label()).status();
}

// Whatever may change while mounted, see LiveOptions.
void Daemon::ApplyOptions(const MountOptions& options) {
  const absl::StatusOr<ReadRules> reading =
      ReadRulesOf(options, membership_->label());
  if (reading.ok()) mirror_->SetReading(*reading);
  mirror_->SetOnEnospc(OnEnospcOf(options));
  pacer_->SetLimits({options.resync_rate_max, options.resync_rate_min});
}

void Daemon::TellServiceManager() {
  notifier_->Status(absl::StrCat(assembly_.label.mirror_name, ": ",
                                 SummarizeMirror(*mirror_)));
}

void Daemon::Tick() {
  membership_->NoteTime();
  mirror_->gate().Tick();
  // What is left is cleared another time.
  (void)mirror_->ClearIdle(/*all=*/false,
                           [this] { return fs_->SettleOpenFiles(); });
  TellServiceManager();
  admin_->FinishReplacing();
}

absl::Status Daemon::Start(std::function<void()> ready) {
  FileSystemOptions fs_options;
  fs_options.attr_timeout = command_.options.attr_timeout;
  fs_options.entry_timeout = command_.options.entry_timeout;
  fs_options.negative_timeout = command_.options.negative_timeout;
  fs_options.writeback_cache = command_.options.cache == CacheMode::kWriteBack;
  fs_options.direct_io = command_.options.cache == CacheMode::kNone;
  fs_options.acls = mirror_->primary().HasAcls();
  const auto settle = [this] { return fs_->SettleOpenFiles(); };
  notifier_ = std::make_unique<ServiceNotifier>(
      NotifySocket(command_.options.foreground));
  fs_ = std::make_unique<FileSystem>(mirror_.get(), fs_options, [this, ready] {
    RaiseReadAhead(command_.mount_point);
    spdlog::info("mirror \"{}\" is mounted at {}", assembly_.label.mirror_name,
                 command_.mount_point);
    ready();
    TellServiceManager();
    notifier_->Ready();
  });
  pacer_ = std::make_unique<Pacer>([] { return absl::Now(); },
                                   [this] { return fs_->requests(); });
  recovery_ = std::make_unique<Recovery>(
      mirror_.get(), events_.get(), pacer_.get(), &clock_, settle, watchdog_);
  recovery_->SetAdmissionListener([this] { admin_->FinishReplacing(); });
  mirror_->SetLetGoListener(
      [this](LegSlot slot, uint64_t epoch) { fs_->LetGo(slot, epoch); });
  mirror_->SetWorkListener([this] { recovery_->Wake(); });
  mirror_->StartListening();
  BuildOptions();
  return StartControl();
}

absl::Status Daemon::Serve() {
  // The session waits for them; no other thread takes them.
  sigset_t ends;
  sigemptyset(&ends);
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) sigaddset(&ends, number);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  absl::Status served;
  {
    FuseSession session;
    served = session.Mount(command_, fs_.get());
    if (!served.ok()) return served;
    hooks_ = std::make_unique<HookRunner>(
        events_.get(),
        HookSettings{HooksDirectory(), assembly_.label.mirror_uuid,
                     command_.mount_point});
    if (!command_.options.read_only) {
      recovery_->Start();
      upkeep_ =
          std::make_unique<Upkeep>(watchdog_, TickPeriod(), [this] { Tick(); });
      if (command_.options.probe_interval > absl::ZeroDuration()) {
        probing_ =
            std::make_unique<Upkeep>(watchdog_, command_.options.probe_interval,
                                     [this] { probe_->ProbeAll(); });
      }
      settling_ =
          std::make_unique<Upkeep>(watchdog_, std::min(kSettle, TickPeriod()),
                                   [this] { mirror_->SettleDirs(); });
      letting_go_ = std::make_unique<Upkeep>(
          watchdog_, kLettingGo, [this] { mirror_->LetGoOfLegsDown(); });
    }
    served = session.Serve(command_.options.threads, watchdog_);
  }
  // The mount is gone; a signal that comes now must not cut the end short.
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) signal(number, SIG_IGN);
  notifier_->Stopping();
  const absl::Status ended = OnFiber(watchdog_, [this] { return End(); });
  hooks_->Stop();
  return served.ok() ? ended : served;
}

absl::Status Daemon::End() {
  absl::Status status;
  if (!command_.options.read_only) status = SaveWhatIsLeft();
  control_->EndConnections();
  return status;
}

absl::Status Daemon::SaveWhatIsLeft() {
  admin_->Close();
  if (probing_) probing_->Stop();
  recovery_->Stop();
  settling_->Stop();
  letting_go_->Stop();
  upkeep_->Stop();
  (void)mirror_->ClearIdle(/*all=*/true,
                           [this] { return fs_->SettleOpenFiles(); });
  const DirtyLog::SyncCount count = log_->GetSyncCount(mirror_->all());
  const bool empty = count.regions == 0 && count.dirty == 0;
  if (!empty && membership_->label().log.type == "core") {
    absl::StatusOr<LabelLog> saved =
        SaveLog(membership_->label(), mirror_->primary(), *log_);
    if (!saved.ok()) return saved.status();
    membership_->SetLog(*saved);
  }
  if (!log_->FlushLazily().ok()) (void)mirror_->MendLog();
  absl::Status status = log_->Postsuspend();
  if (status.ok()) status = membership_->Stop(empty);
  if (status.ok()) {
    spdlog::info("mirror \"{}\" ended in order", assembly_.label.mirror_name);
  }
  return status;
}

}  // namespace

absl::Status RunDaemon(const MountCommand& command, std::function<void()> ready,
                       bool* leg_hangs) {
  PrepareProcess();
  const std::shared_ptr<Watchdog> watchdog =
      Watchdog::Start(command.options.leg_timeout);
  auto daemon = std::make_unique<Daemon>(command, watchdog.get());
  absl::Status status = OnFiber(watchdog.get(), [&] {
    absl::Status built = daemon->Build();
    return built.ok() ? daemon->Start(std::move(ready)) : built;
  });
  if (status.ok()) status = daemon->Serve();
  // It is stopped when the legs have been let go: that tells `mirrorfs umount`.
  const std::unique_ptr<ControlServer> control = daemon->TakeControl();
  // Where the mount failed nobody has yet, and an answer looks into the daemon.
  if (control != nullptr) control->EndConnections();
  (void)OnFiber(watchdog.get(), [&] {
    daemon = nullptr;
    return absl::OkStatus();
  });
  if (control != nullptr) control->Stop();
  watchdog->Stop();
  *leg_hangs = watchdog->left_behind() > 0;
  return status;
}

}  // namespace mirrorfs
