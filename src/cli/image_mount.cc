#include "cli/image_mount.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "cli/serve.h"
#include "composefs/guarded_fs.h"
#include "composefs/image_file.h"
#include "composefs/image_fs.h"
#include "composefs/mount.h"
#include "fuse/channel.h"
#include "fuse/daemon.h"
#include "fuse/session.h"
#include "fuse/stop_signals.h"
#include "sys/capabilities.h"
#include "sys/file.h"
#include "sys/fuse_device.h"
#include "sys/inherited_fds.h"
#include "sys/mount_calls.h"
#include "sys/process.h"

namespace vellum::cli {
namespace {

constexpr const char* kType = "composefs";
using Fuse = ImageMountCommand::Fuse;

enum class Way { kKernel, kOverlay, kStandalone };

struct Problem {
  std::string what;
};
using Outcome = std::expected<void, Problem>;
std::unexpected<Problem> problem(std::string what) { return std::unexpected(Problem{std::move(what)}); }

// What is the same in all ways: files and directories, open.
struct Sources {
  sys::UniqueFd image;
  std::vector<sys::UniqueFd> objects;
  sys::UniqueFd upper, work;  // or none
  composefs::ImageHeader header;
  std::string mountpoint;  // absolute
  sys::UniqueFd place;     // the same directory, whatever becomes of the path
};

std::expected<sys::UniqueFd, Problem> open_directory(const char* what, const std::string& path) {
  auto opened = sys::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (!opened) return problem(fmt::format("{} {}: {}", what, path, opened.error().message()));
  return std::move(*opened);
}

std::expected<Sources, Problem> open_sources(const ImageMountCommand& command) {
  Sources sources;
  // A manager that holds them open passes descriptors named "image" and "basedir" (sd_listen_fds(3)).
  sys::InheritedFds inherited = sys::InheritedFds::take();
  if (auto image = inherited.take("image")) {
    sources.image = std::move(*image);
  } else {
    auto opened = sys::open(command.image.c_str(), O_RDONLY | O_CLOEXEC);
    if (!opened) return problem(fmt::format("image {}: {}", command.image, opened.error().message()));
    sources.image = std::move(*opened);
  }
  const auto header = composefs::read_image_header(sources.image);
  if (!header) return problem(fmt::format("image {}: {}", command.image, header.error()));
  sources.header = *header;
  while (auto objects = inherited.take("basedir")) sources.objects.push_back(std::move(*objects));
  if (sources.objects.empty()) {
    for (const std::string& path : command.basedirs) {
      auto opened = open_directory("basedir", path);
      if (!opened) return std::unexpected(opened.error());
      sources.objects.push_back(std::move(*opened));
    }
  }
  if (sources.objects.empty() && header->composefs) return problem("basedir is needed: where are the objects?");
  if (!command.upperdir.empty()) {
    auto upper = open_directory("upperdir", command.upperdir), work = open_directory("workdir", command.workdir);
    if (!upper) return std::unexpected(upper.error());
    if (!work) return std::unexpected(work.error());
    sources.upper = std::move(*upper);
    sources.work = std::move(*work);
  }
  const auto place = sys::real_path(command.mountpoint);
  if (!place) return problem(fmt::format("mountpoint {}: {}", command.mountpoint, place.error().message()));
  sources.mountpoint = *place;
  auto held = sys::open(place->c_str(), O_PATH | O_CLOEXEC);
  if (!held) return problem(fmt::format("mountpoint {}: {}", command.mountpoint, held.error().message()));
  sources.place = std::move(*held);
  return sources;
}

// O_PATH descriptors answer no ioctl.
bool objects_have_verity(const Sources& sources) {
  return std::ranges::all_of(sources.objects, [](const sys::UniqueFd& fd) {
    const auto opened = sys::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return opened && composefs::has_verity(*opened);
  });
}

// The ways that come into question, best first; and why the first of all is not among them.
struct Plan {
  std::vector<Way> ways;
  std::string why_not_better;
  bool kernel_checks = false;  // overlayfs is told to
};

std::expected<Plan, Problem> plan_for(const ImageMountCommand& command, const Sources& sources) {
  const sys::Privileges may = sys::privileges();
  const bool plain = sources.objects.empty();  // an EROFS image that is no composefs
  Plan plan;
  if (plain && !command.upperdir.empty()) return problem("upperdir: only over a composefs image, which this is not");
  if (command.standalone) {
    plan.ways = {Way::kStandalone};
    return plan;
  }
  const bool verity = command.verify != composefs::Verify::kNo && objects_have_verity(sources);
  // overlayfs would refuse every file: it checks nothing but what fs-verity protects.
  const bool only_we_check = command.verify == composefs::Verify::kRequire && !verity;
  plan.kernel_checks = verity;

  if (command.fuse != Fuse::kYes) {
    const bool unknown_digest = command.digest && !composefs::kernel_vouches(sources.image, *command.digest);
    if (!may.sys_admin)
      plan.why_not_better = "the kernel's EROFS needs CAP_SYS_ADMIN in the first user namespace";
    else if (unknown_digest)
      plan.why_not_better = "the image is not protected by fs-verity with that digest";
    else if (only_we_check)
      plan.why_not_better = "the objects' file system has no fs-verity";
    else
      plan.ways.push_back(Way::kKernel);
    if (command.fuse == Fuse::kNo) {
      if (plan.ways.empty()) return problem(fmt::format("--fuse=no: {}", plan.why_not_better));
      return plan;
    }
  }
  if (!command.idmap.empty()) {
    if (plan.ways.empty()) return problem(fmt::format("idmap needs the kernel's EROFS: {}", plan.why_not_better));
    return plan;
  }
  if (!plain) {
    std::string why;
    if (!may.sys_admin_here)
      why = "overlayfs needs CAP_SYS_ADMIN";
    else if (only_we_check)
      why = "the objects' file system has no fs-verity";
    else
      plan.ways.push_back(Way::kOverlay);
    if (plan.why_not_better.empty()) plan.why_not_better = why;
    if (!command.upperdir.empty() && plan.ways.empty())
      return problem(fmt::format("upperdir needs overlayfs: {}", why));
  }
  if (command.upperdir.empty()) plan.ways.push_back(Way::kStandalone);
  if (plan.ways.empty()) return problem(fmt::format("no way to mount this: {}", plan.why_not_better));
  return plan;
}

composefs::OverlayMount overlay_settings(const ImageMountCommand& command, const Sources& sources, const Plan& plan,
                                         sys::FdRef metadata) {
  composefs::OverlayMount settings;
  settings.metadata = metadata;
  settings.objects = &sources.objects;
  settings.upper = sources.upper;
  settings.work = sources.work;
  settings.verify = plan.kernel_checks ? command.verify : composefs::Verify::kNo;
  settings.flags = command.flags;
  return settings;
}

Outcome mount_by_kernel(const ImageMountCommand& command, const Sources& sources, const Plan& plan) {
  sys::UniqueFd user_namespace;
  if (!command.idmap.empty()) {
    auto opened = sys::open(command.idmap.c_str(), O_RDONLY | O_CLOEXEC);
    if (!opened) return problem(fmt::format("idmap {}: {}", command.idmap, opened.error().message()));
    user_namespace = std::move(*opened);
  }
  auto mount = composefs::mount_erofs({.image = sources.image,
                                       .acl = sources.header.has_acl,
                                       .flags = command.flags,  // where no overlay hides it, it is what programs see
                                       .user_namespace = user_namespace});
  if (!mount) return problem(mount.error().message);
  if (!sources.objects.empty()) {
    auto overlay = composefs::mount_overlay(overlay_settings(command, sources, plan, *mount));
    if (!overlay) return problem(overlay.error().message);
    mount = std::move(overlay);
  }
  if (const Status attached = sys::attach(*mount, sources.place); !attached)
    return problem(fmt::format("cannot attach the mount at {}: {}", sources.mountpoint, attached.error().message()));
  return {};
}

unsigned thread_count(const ImageMountCommand& command) {
  if (command.threads) return std::max(*command.threads, 2u);  // one that mounts waits for another that serves
  return std::clamp(2 * std::thread::hardware_concurrency(), 4u, 16u);
}

// A mount of ours that lies somewhere, which may have been taken away or covered since.
class Place {
 public:
  explicit Place(sys::FdRef mount) : id_(sys::mount_id(mount).value_or(sys::MountId{})) {}
  void unmount() const {
    if (const auto path = sys::mount_point(id_)) ignore(sys::unmount_detached(*path));
  }

 private:
  sys::MountId id_;
};

// Serves the metadata on a mount that is never seen, mounts the overlay over it, and goes on until that is gone.
// An error: this way did not work, and nothing is left of it.
Outcome serve_below_overlay(const std::string& program, const ImageMountCommand& command, Sources& sources,
                            const Plan& plan, fuse::Filesystem& filesystem, fuse::Daemon& daemon, int& code) {
  UringOffer offer = command.io_uring.value_or(true) ? offer_uring(command.io_uring.value_or(false)) : UringOffer{};
  auto device = sys::open_fuse_device();
  if (!device) return problem(fmt::format("cannot open {}: {}", sys::kFuseDevicePath, device.error().message()));
  auto metadata = composefs::mount_fuse(*device, kType, command.allow_other.value_or(true));
  if (!metadata) return problem(metadata.error().message);

  Mutex mutex;  // of the next two: a signal may come while the overlay is being mounted
  bool stopping = false;
  std::optional<Place> place;
  std::string why;
  std::jthread mounter;
  fuse::Session* serving = nullptr;
  const auto mount_above = [&]() -> Outcome {
    auto settings = overlay_settings(command, sources, plan, *metadata);
    settings.userxattr = !sys::privileges().sys_admin;
    // Until it has asked once, the kernel takes the root for a directory that nobody may enter, and overlayfs would
    // keep that mode for as long as it lives.
    if (const auto root = sys::statx(*metadata, ""); !root)
      return problem(fmt::format("cannot serve the image's root: {}", root.error().message()));
    auto overlay = composefs::mount_overlay(settings);
    if (!overlay) return problem(overlay.error().message);
    metadata->reset();  // the overlay holds it from now on; when the overlay goes, so does the connection
    const MutexLock lock(mutex);
    if (stopping) return problem("stopped while mounting");
    if (const Status attached = sys::attach(*overlay, sources.place); !attached)
      return problem(fmt::format("cannot attach the mount at {}: {}", sources.mountpoint, attached.error().message()));
    place.emplace(*overlay);
    sources.place.reset();  // or the file system below could not be unmounted while we serve
    return {};
  };
  // On a thread of its own: overlayfs asks us for the root before it stands.
  const auto ready = [&](unsigned) {
    offer.permit.reset();
    if (command.io_uring.value_or(false) && !serving->over_io_uring())
      log::warning("{}: io_uring=1: not possible here, going on with /dev/fuse", program);
    mounter = std::jthread([&] {
      if (const Outcome mounted = mount_above(); !mounted) {
        why = mounted.error().what;
        serving->stop();
        return;
      }
      if (!command.foreground) log::log_to_syslog(program.c_str());
      daemon.ready();
    });
  };
  // Nothing is ever written, and READ stays small: the data is not ours.
  constexpr std::uint32_t kReadAtOnce = 128 << 10;
  fuse::Session session(filesystem, {.wishes = {.max_write = kReadAtOnce,
                                                .max_readahead = kReadAtOnce,
                                                .posix_acl = sources.header.has_acl,
                                                .export_support = true,
                                                .readdirplus_auto = false,
                                                .io_uring = offer.may_use},
                                     .on_ready = ready});
  serving = &session;
  std::jthread stopper;  // gone before the session is
  const fuse::StopSignals signals({.stop =
                                       [&](int) {
                                         stopper = std::jthread([&] {
                                           {
                                             const MutexLock lock(mutex);
                                             stopping = true;
                                             if (place) place->unmount();
                                           }
                                           session.stop();
                                         });
                                       },
                                   .hurry =
                                       [&] {
                                         const MutexLock lock(mutex);
                                         if (place) place->unmount();
                                         sys::exit_now(1);
                                       },
                                   .report = [&session] { log::warning("{}", fuse::to_json(session.stats())); }});
  const Status served = session.run(std::make_unique<fuse::DeviceChannel>(std::move(*device)), thread_count(command));
  if (mounter.joinable()) mounter.join();
  {
    const MutexLock lock(mutex);
    if (stopping && !place) {  // and no other way is tried
      code = daemon.fail(fmt::format("{}: stopped while mounting", program));
      return {};
    }
  }
  if (!why.empty()) return problem(why);
  if (!served && !place) return problem(fmt::format("cannot serve: {}", served.error().message()));
  code = served ? 0 : daemon.fail(fmt::format("{}: serving ended: {}", program, served.error().message()));
  return {};
}

// The last of all ways: what goes wrong is told by serve().
int serve_alone(const std::string& program, const ImageMountCommand& command, const Sources& sources,
                fuse::Filesystem& filesystem, fuse::Daemon& daemon) {
  auto flags = command.flags;
  flags.read_only = true;
  Serving serving;
  serving.program = program;
  serving.mount = {.mountpoint = sources.mountpoint,
                   .subtype = kType,
                   .source = kType,
                   .flags = flags,
                   .allow_other = command.allow_other.value_or(sys::privileges().sys_admin_here)};
  serving.wishes = {
      .passthrough = true, .posix_acl = sources.header.has_acl, .export_support = true, .readdirplus_auto = false};
  serving.wishes.io_uring = command.io_uring.value_or(true);
  serving.io_uring_wanted = command.io_uring.value_or(false);
  serving.threads = thread_count(command);
  serving.foreground = command.foreground;
  serving.report = [](const fuse::Session& session) { return fuse::to_json(session.stats()); };
  return cli::serve(filesystem, serving, daemon);
}

// In the serving process: the first way that works.
int serve_image(const std::string& program, const ImageMountCommand& command, Sources& sources, const Plan& plan,
                fuse::Daemon& daemon) {
  auto file = composefs::ImageFile::hold(sources.image, command.digest);
  if (!file) return daemon.fail(fmt::format("{}: image {}: {}", program, command.image, file.error()));
  sources.image.reset();  // where it was copied, its file system may be unmounted while we serve
  const erofs::Image& image = (*file)->image();
  const bool trusted = sys::privileges().sys_admin;
  std::optional<composefs::GuardedFs> guarded;
  const auto guard = [&](fuse::Filesystem& filesystem) -> fuse::Filesystem& {
    sys::FaultGuard* const over = (*file)->guard();
    return over == nullptr ? filesystem : guarded.emplace(filesystem, *over);
  };
  std::string why = plan.why_not_better;
  // Only a step down that the user did not ask for is worth a line.
  bool tell = command.fuse == Fuse::kAuto && trusted;
  for (const Way way : plan.ways) {
    if (way == Way::kKernel) continue;
    if (!why.empty() && tell)
      log::warning("{}: {}; {}", program, why,
                   way == Way::kOverlay ? "going on with FUSE below overlayfs" : "going on with FUSE alone");
    if (way == Way::kOverlay) {
      // Who may use trusted.overlay.* loses nothing of the image's own user.overlay.*.
      const auto rule = trusted ? composefs::XattrRule::kAsStored : composefs::XattrRule::kMetadata;
      composefs::ImageFs filesystem(image, {.xattrs = rule, .trusted_xattrs = trusted});
      int code = 1;
      const Outcome outcome = serve_below_overlay(program, command, sources, plan, guard(filesystem), daemon, code);
      if (outcome) return code;
      why = outcome.error().what;
      tell = true;
      continue;
    }
    sources.place.reset();
    if (sources.objects.empty()) {
      composefs::ImageFs filesystem(
          image, {.xattrs = composefs::XattrRule::kAsStored, .external_files = false, .trusted_xattrs = trusted});
      return serve_alone(program, command, sources, guard(filesystem), daemon);
    }
    composefs::Objects objects(std::move(sources.objects), command.verify);
    composefs::ImageFs filesystem(
        image, {.xattrs = composefs::XattrRule::kStandalone, .objects = &objects, .trusted_xattrs = trusted});
    return serve_alone(program, command, sources, guard(filesystem), daemon);
  }
  return daemon.fail(fmt::format("{}: {}", program, why));
}

}  // namespace

int mount_image(const std::string& program, const ImageMountCommand& command) {
  const auto refuse = [&program](const Problem& why) {
    log::error("{}: {}", program, why.what);
    return 1;
  };
  if (command.debug) log::set_debug(true);
  auto sources = open_sources(command);
  if (!sources) return refuse(sources.error());
  auto plan = plan_for(command, *sources);
  if (!plan) return refuse(plan.error());
  if (plan->ways.front() == Way::kKernel) {
    const Outcome mounted = mount_by_kernel(command, *sources, *plan);
    if (mounted) return 0;
    if (plan->ways.size() == 1) return refuse(mounted.error());
    plan->why_not_better = mounted.error().what;
  }

  return start(
      program, command.foreground, [] {},
      [&](fuse::Daemon& daemon) { return serve_image(program, command, *sources, *plan, daemon); });
}

int image_mount_main(const std::string& program, std::span<const std::string> arguments) {
  const auto command = parse_image_mount(arguments);
  if (!command) {
    fmt::print(stderr, "{}: {}\n", program, command.error());
    return 1;
  }
  switch (command->action) {
    case ImageMountCommand::Action::kHelp: fmt::print("{}", image_mount_help(program)); return 0;
    case ImageMountCommand::Action::kNothing: return 0;
    case ImageMountCommand::Action::kMount: break;
  }
  return mount_image(program, *command);
}

}  // namespace vellum::cli
