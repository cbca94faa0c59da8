#include "cli/serve.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <thread>

#include "base/log.h"
#include "fuse/channel.h"
#include "fuse/stop_signals.h"
#include "fuse/write_out.h"
#include "sys/capabilities.h"
#include "sys/file.h"
#include "sys/process.h"
#include "sys/uring_permit.h"

namespace vellum::cli {

int start(const std::string& program, bool foreground, const std::function<void()>& before,
          const std::function<int(fuse::Daemon&)>& serve) {
  if (const Status blocked = fuse::StopSignals::block(); !blocked) {
    log::error("{}: cannot block signals: {}", program, blocked.error().message());
    return 1;
  }
  sys::raise_open_file_limit();
  before();  // a log file it opens gets the caller's umask
  sys::clear_umask();

  if (foreground) {
    fuse::Daemon daemon = fuse::Daemon::foreground();
    return serve(daemon);
  }
  auto daemon = fuse::Daemon::start();
  if (!daemon) {
    log::error("{}: cannot go to the background: {}", program, daemon.error().message());
    return 1;
  }
  return daemon->is_parent() ? daemon->wait() : serve(*daemon);
}

UringOffer offer_uring(bool by_name) {
  if (by_name) {
    if (auto taken = sys::UringPermit::take()) return {.may_use = true, .permit = std::move(*taken)};
  }
  if (auto kept = sys::UringPermit::keep())
    return {.may_use = true, .permit = std::move(*kept)};
  else if (kept.error() == EOPNOTSUPP || kept.error() == EBUSY)
    return {};
  return {.may_use = true, .permit = {}};  // no sysfs here to ask: what the kernel offers
}

int serve(fuse::Filesystem& filesystem, const Serving& what, fuse::Daemon& daemon) {
  fuse::Wishes wishes = what.wishes;
  UringOffer offer = wishes.io_uring ? offer_uring(what.io_uring_wanted) : UringOffer{};
  wishes.io_uring = offer.may_use;
  auto mount = fuse::mount(what.mount);
  if (!mount) return daemon.fail(fmt::format("{}: {}", what.program, mount.error().message));
  if (what.on_mount) {
    if (const Status ready = what.on_mount(*mount); !ready)
      return daemon.fail(fmt::format("{}: {}: {}", what.program, mount->path(), ready.error().message()));
  }
  if (!what.foreground) log::log_to_syslog(what.program.c_str());

  fuse::Session* serving = nullptr;
  const auto ready = [&](unsigned workers) {
    offer.permit.reset();
    if (what.on_workers) what.on_workers(workers);
    if (what.io_uring_wanted && !serving->over_io_uring())
      log::warning("io_uring=1: not possible here, going on with /dev/fuse (is {} Y? see docs/troubleshooting.md)",
                   sys::UringPermit::kSwitch);
    daemon.ready();
  };
  fuse::Session session(filesystem,
                        {.wishes = wishes, .ring_threads = what.ring_threads, .on_ready = ready, .on_thread = [] {
                           ignore(sys::keep_to_quotas());
                         }});
  serving = &session;
  if (what.on_session) what.on_session(session);
  std::jthread stopper;
  const fuse::StopSignals signals({
      .stop =
          [&session, &mount, &stopper](int) {
            stopper = std::jthread([&session, &mount] {
              fuse::write_out(*mount, session);
              ignore(mount->unmount());  // already gone, or gone with the connection that stop() ends
              session.stop();
            });
          },
      // Somebody will not wait, or a layer does not answer.
      .hurry =
          [&mount] {
            ignore(mount->unmount());
            sys::exit_now(1);
          },
      // A warning, because only those reach syslog from the background.
      .report = [&session, &what] { log::warning("{}", what.report(session)); },
  });

  if (what.on_workers) what.on_workers(what.threads);  // ready() says how many there are in the end
  const Status served = session.run(std::make_unique<fuse::DeviceChannel>(mount->take_device()), what.threads);
  if (!served) {
    return daemon.fail(fmt::format("{}: serving {} ended: {}", what.program, mount->path(), served.error().message()));
  }
  return 0;
}

}  // namespace vellum::cli
