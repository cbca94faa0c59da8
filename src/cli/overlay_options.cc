#include "cli/overlay_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <utility>

namespace vellum::cli {
namespace {

using overlay::RedirectDir;
using overlay::WhiteoutStyle;
using overlay::XattrPermissions;
using overlay::XinoMode;

enum class Argument { kNone, kOptional, kRequired };
using Apply = Parsed<void> (*)(OverlayCommand&, std::string_view value);

struct Rule {
  std::string_view name;
  Argument argument;
  Apply apply;
};

template <class T>
struct Word {
  std::string_view word;
  T value;
};

// Sets `target` to what `text` stands for, or says which words there are.
template <class T, std::size_t N>
Parsed<void> choose(T& target, std::string_view text, const std::array<Word<T>, N>& words) {
  const auto found = std::ranges::find(words, text, &Word<T>::word);
  if (found != words.end()) {
    target = found->value;
    return {};
  }
  std::string expected;
  for (std::size_t i = 0; i < N; ++i) {
    if (i > 0) expected += i + 1 == N ? " or " : ", ";
    expected += words[i].word;
  }
  return std::unexpected("expected " + expected);
}

template <class Target, class T>
Parsed<void> store(Target& target, Parsed<T> parsed) {
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  target = *std::move(parsed);
  return {};
}

Parsed<void> store_switch(bool& target, std::string_view text) {
  if (text.empty()) {
    target = true;
    return {};
  }
  return store(target, parse_switch(text));
}

Parsed<void> store_path(std::string& target, std::string_view text) {
  if (text.empty()) return std::unexpected("the path is empty");
  target = unescape(text);
  return {};
}

Parsed<void> store_positive(std::optional<std::uint32_t>& target, std::string_view text,
                            std::uint32_t most = std::numeric_limits<std::uint32_t>::max()) {
  if (auto stored = store(target, parse_u32(text)); !stored) return stored;
  if (*target == 0 || *target > most) return std::unexpected(fmt::format("expected a whole number from 1 to {}", most));
  return {};
}

Parsed<void> store_lower_dirs(std::vector<std::string>& target, std::string_view text) {
  std::vector<std::string> paths = split_paths(text);
  if (std::ranges::any_of(paths, &std::string::empty)) {
    return std::unexpected("a path in the list is empty (escape a ':' that belongs to a name as '\\:')");
  }
  target = std::move(paths);
  return {};
}

Parsed<void> append_lower_dir(std::vector<std::string>& target, std::string_view text) {
  std::string path;
  if (auto stored = store_path(path, text); !stored) return stored;
  target.push_back(std::move(path));
  return {};
}

// An option of kernel overlayfs that does nothing when off, and that we cannot do otherwise.
Parsed<void> only_off(std::string_view text) {
  if (text == "off") return {};
  return std::unexpected("only 'off' is supported");
}

template <bool MountSettings::*member, bool value>
Parsed<void> set_mount(OverlayCommand& command, std::string_view) {
  command.mount.*member = value;
  return {};
}

template <bool overlay::Options::*member>
Parsed<void> switch_overlay(OverlayCommand& command, std::string_view text) {
  return store_switch(command.overlay.*member, text);
}

Parsed<void> set_passthrough(OverlayCommand& command, std::string_view text) {
  command.overlay.lower_passthrough = text != "upper";
  if (text == "upper") text = "1";
  return store_switch(command.mount.passthrough, text);
}

Parsed<void> accept(OverlayCommand&, std::string_view) { return {}; }

constexpr auto kRules = std::to_array<Rule>({
    // Layers.
    {"lowerdir", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_lower_dirs(c.overlay.lower_dirs, v); }},
    {"lowerdir+", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return append_lower_dir(c.overlay.lower_dirs, v); }},
    {"upperdir", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_path(c.overlay.upper_dir, v); }},
    {"workdir", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_path(c.overlay.work_dir, v); }},

    // Owners.
    {"uidmapping", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store(c.overlay.uid_map, parse_id_map(v)); }},
    {"gidmapping", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store(c.overlay.gid_map, parse_id_map(v)); }},
    {"squash_to_root", Argument::kOptional, switch_overlay<&overlay::Options::squash_to_root>},
    {"squash_to_uid", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store(c.overlay.squash_to_uid, parse_u32(v)); }},
    {"squash_to_gid", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store(c.overlay.squash_to_gid, parse_u32(v)); }},
    {"xattr_permissions", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) {
       return choose(c.overlay.xattr_permissions, v,
                     std::to_array<Word<XattrPermissions>>({{"0", XattrPermissions::kOff},
                                                            {"1", XattrPermissions::kPrivileged},
                                                            {"2", XattrPermissions::kContainers}}));
     }},

    // How the tree is kept and shown.
    {"timeout", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store(c.overlay.timeout_seconds, parse_seconds(v)); }},
    {"fsync", Argument::kOptional, switch_overlay<&overlay::Options::fsync>},
    {"volatile", Argument::kOptional, switch_overlay<&overlay::Options::is_volatile>},
    {"handles", Argument::kOptional, switch_overlay<&overlay::Options::handles>},
    {"passthrough", Argument::kOptional, set_passthrough},
    {"writeback", Argument::kOptional, switch_overlay<&overlay::Options::writeback>},
    {"noxattrs", Argument::kOptional, switch_overlay<&overlay::Options::no_xattrs>},
    {"noacl", Argument::kOptional, switch_overlay<&overlay::Options::no_acl>},
    {"userxattr", Argument::kOptional, switch_overlay<&overlay::Options::user_xattr>},
    {"static_nlink", Argument::kOptional, switch_overlay<&overlay::Options::static_nlink>},
    {"ino32_t", Argument::kOptional, switch_overlay<&overlay::Options::ino32>},
    {"fast_ino", Argument::kOptional, switch_overlay<&overlay::Options::fast_ino>},
    {"nfs_filehandles", Argument::kOptional, switch_overlay<&overlay::Options::nfs_filehandles>},
    {"xino", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) {
       return choose(c.overlay.xino, v,
                     std::to_array<Word<XinoMode>>(
                         {{"off", XinoMode::kOff}, {"auto", XinoMode::kAuto}, {"on", XinoMode::kOn}}));
     }},
    {"redirect_dir", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) {
       return choose(c.overlay.redirect_dir, v,
                     std::to_array<Word<RedirectDir>>({{"off", RedirectDir::kOff},
                                                       {"on", RedirectDir::kOn},
                                                       {"copy", RedirectDir::kCopy},
                                                       {"follow", RedirectDir::kFollow},
                                                       {"nofollow", RedirectDir::kNofollow}}));
     }},
    {"metacopy", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) {
       return choose(c.overlay.metacopy, v, std::to_array<Word<bool>>({{"off", false}, {"on", true}}));
     }},
    {"whiteouts", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) {
       return choose(c.overlay.whiteouts, v,
                     std::to_array<Word<WhiteoutStyle>>({{"auto", WhiteoutStyle::kAuto},
                                                         {"device", WhiteoutStyle::kDevice},
                                                         {"dotwh", WhiteoutStyle::kDotWh},
                                                         {"xattr", WhiteoutStyle::kXattr},
                                                         {"deleted-tree", WhiteoutStyle::kDeletedTree}}));
     }},

    // Known to kernel overlayfs or older peers, without an effect here unless asked to do something.
    {"index", Argument::kRequired, [](OverlayCommand&, std::string_view v) { return only_off(v); }},
    {"nfs_export", Argument::kRequired, [](OverlayCommand&, std::string_view v) { return only_off(v); }},
    {"verity", Argument::kRequired, [](OverlayCommand&, std::string_view v) { return only_off(v); }},
    {"uuid", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) -> Parsed<void> {
       bool on = false;
       auto chosen = choose(
           on, v, std::to_array<Word<bool>>({{"off", false}, {"null", false}, {"auto", false}, {"on", true}}));
       if (on) c.warnings.emplace_back("uuid=on: a FUSE file system has no uuid of its own; going on without");
       return chosen;
     }},
    {"plugins", Argument::kRequired,
     [](OverlayCommand&, std::string_view v) -> Parsed<void> {
       if (v.empty()) return {};
       return std::unexpected("plugins are not supported; leave the option out");
     }},

    // Who may use the mount, and how.
    {"allow_other", Argument::kNone, set_mount<&MountSettings::allow_other, true>},
    {"allow_root", Argument::kNone,
     [](OverlayCommand& c, std::string_view) -> Parsed<void> {
       if (!c.mount.allow_other) c.warnings.emplace_back("allow_root: not supported; only the mount's owner gets in");
       return {};
     }},
    {"default_permissions", Argument::kNone, set_mount<&MountSettings::default_permissions, true>},
    {"auto_unmount", Argument::kNone, accept},  // whatever ends the process, short of SIGKILL, unmounts
    {"ro", Argument::kNone, set_mount<&MountSettings::read_only, true>},
    {"rw", Argument::kNone, set_mount<&MountSettings::read_only, false>},
    {"suid", Argument::kNone, set_mount<&MountSettings::suid, true>},
    {"nosuid", Argument::kNone, set_mount<&MountSettings::suid, false>},
    {"dev", Argument::kNone, set_mount<&MountSettings::dev, true>},
    {"nodev", Argument::kNone, set_mount<&MountSettings::dev, false>},
    {"exec", Argument::kNone, set_mount<&MountSettings::exec, true>},
    {"noexec", Argument::kNone, set_mount<&MountSettings::exec, false>},
    {"atime", Argument::kNone, set_mount<&MountSettings::atime, true>},
    {"noatime", Argument::kNone, set_mount<&MountSettings::atime, false>},
    {"diratime", Argument::kNone, set_mount<&MountSettings::diratime, true>},
    {"nodiratime", Argument::kNone, set_mount<&MountSettings::diratime, false>},
    {"sync", Argument::kNone, set_mount<&MountSettings::sync, true>},
    {"async", Argument::kNone, set_mount<&MountSettings::sync, false>},
    {"dirsync", Argument::kNone, set_mount<&MountSettings::dirsync, true>},
    {"fsname", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_path(c.mount.source, v); }},
    {"subtype", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_path(c.mount.subtype, v); }},
    {"context", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) -> Parsed<void> {
       if (v.empty() || v.find('"') != std::string_view::npos) return std::unexpected("expected a SELinux label");
       c.mount.selinux_context = std::string(v);
       return {};
     }},

    // How requests are served.
    {"debug", Argument::kNone,
     [](OverlayCommand& c, std::string_view) -> Parsed<void> {
       c.debug = c.foreground = true;
       return {};
     }},
    {"threaded", Argument::kOptional,
     [](OverlayCommand& c, std::string_view v) { return store_switch(c.mount.threaded, v); }},
    {"max_threads", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_positive(c.mount.max_threads, v, 1024); }},
    {"max_idle_threads", Argument::kRequired, accept},
    {"max_write", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_positive(c.mount.max_write, v, 1U << 24); }},
    {"max_background", Argument::kRequired,
     [](OverlayCommand& c, std::string_view v) { return store_positive(c.mount.max_background, v); }},
    {"io_uring", Argument::kOptional,
     [](OverlayCommand& c, std::string_view v) {
       using enum MountSettings::IoUring;
       return choose(
           c.mount.io_uring, v.empty() ? "1" : v,
           std::to_array<Word<MountSettings::IoUring>>(
               {{"auto", kAuto}, {"on", kOn}, {"off", kOff}, {"1", kOn}, {"0", kOff}}));
     }},
    {"splice", Argument::kOptional,
     [](OverlayCommand& c, std::string_view v) { return store_switch(c.mount.splice, v); }},
    // The session finds the best way itself.
    {"clone_fd", Argument::kNone, accept},
    {"splice_read", Argument::kNone, accept},
    {"splice_write", Argument::kNone, accept},
    {"splice_move", Argument::kNone, accept},
    {"no_splice_read", Argument::kNone, accept},
    {"no_splice_write", Argument::kNone, accept},
    {"no_splice_move", Argument::kNone, accept},
    {"kernel_cache", Argument::kNone, accept},
    {"auto_cache", Argument::kNone, accept},
    {"noauto_cache", Argument::kNone, accept},
    {"big_writes", Argument::kNone, accept},
    {"nonempty", Argument::kNone, accept},

    // A second mount over the first is not what was asked for.
    {"remount", Argument::kNone,
     [](OverlayCommand&, std::string_view) -> Parsed<void> {
       return std::unexpected("a mount cannot be changed: unmount it, and mount it again");
     }},

    // Words of mount(8) and /etc/fstab that are for mount(8) alone.
    {"auto", Argument::kNone, accept},
    {"noauto", Argument::kNone, accept},
    {"defaults", Argument::kNone, accept},
    {"nofail", Argument::kNone, accept},
    {"user", Argument::kOptional, accept},
    {"nouser", Argument::kNone, accept},
    {"users", Argument::kNone, accept},
    {"_netdev", Argument::kNone, accept},
    {"relatime", Argument::kNone, accept},
    {"lazytime", Argument::kNone, accept},
    {"nolazytime", Argument::kNone, accept},
});

bool is_for_mount8(std::string_view name) { return name.starts_with("x-") || name == "comment"; }

Parsed<void> apply_option(const OptionText& option, OverlayCommand& command) {
  const auto rule = std::ranges::find(kRules, option.name, &Rule::name);
  if (rule == kRules.end()) {
    if (!is_for_mount8(option.name)) command.ignored.push_back(option.text());
    return {};
  }
  if (rule->argument == Argument::kNone && option.has_value) {
    return std::unexpected(fmt::format("{}: the option takes no value", option.text()));
  }
  if (rule->argument == Argument::kRequired && !option.has_value) {
    return std::unexpected(fmt::format("{}: the option needs a value ({}=...)", option.name, option.name));
  }
  if (rule->argument == Argument::kOptional && option.has_value && option.value.empty()) {
    return std::unexpected(fmt::format("{}=: the value is empty", option.name));
  }
  if (auto applied = rule->apply(command, option.value); !applied) {
    return std::unexpected(fmt::format("{}: {}", option.text(), applied.error()));
  }
  return {};
}

void set_defaults(OverlayCommand& command, const Environment& environment) {
  command.mount.allow_other = environment.is_root;
  command.mount.suid = environment.is_root;
  command.mount.subtype = "fuse-overlayfs";
  command.debug_log = environment.debug_log;
}

// The words that are not options: [source] mountpoint. What starts with '-' is an option nobody here knows.
Parsed<void> take_words(const std::vector<std::string>& words, OverlayCommand& command) {
  std::vector<std::string> names;
  bool options_ended = false;
  for (const std::string& word : words) {
    if (!options_ended && word == "--") {
      options_ended = true;
    } else if (!options_ended && word.size() > 1 && word.starts_with('-')) {
      command.ignored.push_back(word);
    } else {
      names.push_back(word);
    }
  }
  if (names.size() > 2) {
    return std::unexpected(fmt::format("'{}': more words than a source and a mountpoint", names[2]));
  }
  if (names.empty()) return {};
  command.mount.mountpoint = names.back();
  if (names.size() == 2 && command.mount.source.empty()) command.mount.source = names.front();
  return {};
}

Parsed<void> check_together(OverlayCommand& command) {
  const overlay::Options& o = command.overlay;
  if (command.mount.mountpoint.empty()) return std::unexpected("no mountpoint given (try --help)");
  if (o.lower_dirs.empty()) return std::unexpected("no lowerdir given: say -o lowerdir=DIR[:DIR...]");
  if (!o.upper_dir.empty() && o.work_dir.empty()) {
    return std::unexpected(fmt::format(
        "upperdir={}: no workdir given: say -o workdir=DIR, an empty directory on the same file system", o.upper_dir));
  }
  if (o.upper_dir.empty() && !o.work_dir.empty()) {
    command.warnings.push_back(
        fmt::format("workdir={}: without an upperdir the mount is read-only and no workdir is used", o.work_dir));
  }
  return {};
}

}  // namespace

Environment Environment::of_process() {
  const char* debug_log = std::getenv("FUSE_OVERLAYFS_DEBUG_LOG");
  return {.is_root = ::geteuid() == 0,
          .disable_device_whiteouts = std::getenv("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT") != nullptr,
          .no_passthrough = std::getenv("FUSE_OVERLAYFS_NO_PASSTHROUGH") != nullptr,
          .debug_log = debug_log != nullptr ? debug_log : ""};
}

Parsed<void> apply_option_list(std::string_view list, OverlayCommand& command) {
  for (const OptionText& option : split_options(list)) {
    if (auto applied = apply_option(option, command); !applied) return applied;
  }
  return {};
}

Parsed<OverlayCommand> parse_overlay_command(std::span<const std::string> arguments, const Environment& environment) {
  OverlayCommand command;
  set_defaults(command, environment);

  // CLI11 knows the dashes; what is between commas is ours. allow_extras: words and unknown dashes come back in
  // remaining(), in their order.
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  bool help = false, version = false, f = false, debug = false, s = false;
  std::vector<std::string> lists, ignored_values;
  app.add_flag("-h,--help", help);
  app.add_flag("-V,--version", version);
  app.add_flag("-f", f);
  app.add_flag("-d,--debug", debug);
  app.add_flag("-s", s);
  app.add_flag("-n,-v", [](std::int64_t) {});  // mount(8) passes these to its helpers
  app.add_option("-o", lists)->allow_extra_args(false)->type_name("OPTION[,OPTION...]");
  app.add_option("-t,-N", ignored_values)->allow_extra_args(false);  // as above, with a value

  // CLI11 takes its arguments last first.
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return std::unexpected(fmt::format("{} (try --help)", error.what()));
  }

  if (help || version) {
    command.action = help ? OverlayCommand::Action::kHelp : OverlayCommand::Action::kVersion;
    return command;
  }
  for (const std::string& list : lists) {
    if (auto applied = apply_option_list(list, command); !applied) return std::unexpected(applied.error());
  }
  const bool fake = f && environment.by_mount8;
  command.foreground |= (f && !fake) || debug;
  command.debug |= debug;
  if (s && !environment.by_mount8) command.mount.threaded = false;
  if (environment.disable_device_whiteouts && command.overlay.whiteouts == WhiteoutStyle::kAuto) {
    command.overlay.whiteouts = WhiteoutStyle::kDotWh;
  }
  if (auto taken = take_words(app.remaining(), command); !taken) return std::unexpected(taken.error());
  if (environment.no_passthrough) command.mount.passthrough = false;
  if (auto checked = check_together(command); !checked) return std::unexpected(checked.error());
  if (fake) command.action = OverlayCommand::Action::kNothing;
  return command;
}

}  // namespace vellum::cli
