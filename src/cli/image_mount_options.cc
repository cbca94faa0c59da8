#include "cli/image_mount_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

namespace vellum::cli {
namespace {

using Set = std::string (*)(ImageMountCommand&, const std::string& value);  // what is wrong; empty: nothing

struct Option {
  std::string_view name;
  bool takes_value;
  Set set;
};

std::string set_fuse(ImageMountCommand& command, const std::string& value) {
  using Fuse = ImageMountCommand::Fuse;
  if (value == "auto")
    command.fuse = Fuse::kAuto;
  else if (value == "yes")
    command.fuse = Fuse::kYes;
  else if (value == "no")
    command.fuse = Fuse::kNo;
  else
    return "is auto, yes or no";
  return {};
}

std::string set_digest(ImageMountCommand& command, const std::string& value) {
  command.digest = composefs::parse_digest(value);
  return command.digest ? "" : "is 64 or 128 hexadecimal digits";
}

std::string set_io_uring(ImageMountCommand& command, const std::string& value) {
  command.io_uring.reset();
  if (value == "auto") return {};
  const auto on = parse_switch(value);
  if (!on) return on.error();
  command.io_uring = *on;
  return {};
}

std::string set_threads(ImageMountCommand& command, const std::string& value) {
  const auto number = parse_u32(value);
  if (!number) return number.error();
  constexpr std::uint32_t kMost = 1024;
  if (*number == 0 || *number > kMost) return "is 1 to 1024";
  command.threads = *number;
  return {};
}

enum class Atime { kDefault, kNever, kRelative, kStrict };

void set_atime(ImageMountCommand& command, Atime atime) {
  command.flags.noatime = atime == Atime::kNever;
  command.flags.relatime = atime == Atime::kRelative;
  command.flags.strictatime = atime == Atime::kStrict;
}

#define VELLUM_TAKE(what)                                    \
  [](ImageMountCommand& command, const std::string& value) { \
    static_cast<void>(value), static_cast<void>(command);    \
    what;                                                    \
    return std::string();                                    \
  }
constexpr std::array kOptions = {
    Option{"basedir", true, VELLUM_TAKE(command.basedirs = split_paths(value))},
    Option{"digest", true, set_digest},
    Option{"verity", false, VELLUM_TAKE(command.verify = composefs::Verify::kRequire)},
    Option{"tryverity", false,
           VELLUM_TAKE(if (command.verify == composefs::Verify::kNo) command.verify = composefs::Verify::kTry)},
    Option{"idmap", true, VELLUM_TAKE(command.idmap = unescape(value))},
    Option{"upperdir", true, VELLUM_TAKE(command.upperdir = unescape(value))},
    Option{"workdir", true, VELLUM_TAKE(command.workdir = unescape(value))},
    Option{"ro", false, VELLUM_TAKE(command.flags.read_only = true)},
    Option{"rw", false, VELLUM_TAKE(command.flags.read_only = false)},
    Option{"fuse", true, set_fuse},
    Option{"standalone", false, VELLUM_TAKE(command.standalone = true)},
    Option{"foreground", false, VELLUM_TAKE(command.foreground = true)},
    Option{"debug", false, VELLUM_TAKE(command.debug = true)},
    Option{"threads", true, set_threads},
    Option{"io_uring", true, set_io_uring},
    Option{"allow_other", false, VELLUM_TAKE(command.allow_other = true)},
    Option{"nosuid", false, VELLUM_TAKE(command.flags.nosuid = true)},
    Option{"nodev", false, VELLUM_TAKE(command.flags.nodev = true)},
    Option{"noexec", false, VELLUM_TAKE(command.flags.noexec = true)},
    Option{"suid", false, VELLUM_TAKE(command.flags.nosuid = false)},
    Option{"dev", false, VELLUM_TAKE(command.flags.nodev = false)},
    Option{"exec", false, VELLUM_TAKE(command.flags.noexec = false)},
    // Of these the last one counts.
    Option{"atime", false, VELLUM_TAKE(set_atime(command, Atime::kDefault))},
    Option{"noatime", false, VELLUM_TAKE(set_atime(command, Atime::kNever))},
    Option{"relatime", false, VELLUM_TAKE(set_atime(command, Atime::kRelative))},
    Option{"strictatime", false, VELLUM_TAKE(set_atime(command, Atime::kStrict))},
    Option{"diratime", false, VELLUM_TAKE(command.flags.nodiratime = false)},
    Option{"nodiratime", false, VELLUM_TAKE(command.flags.nodiratime = true)},
};
#undef VELLUM_TAKE

// For mount(8), or of no consequence for what is never written.
constexpr std::array<std::string_view, 20> kIgnored = {
    "defaults", "auto",  "noauto",  "nofail", "_netdev", "user",     "nouser",     "users",    "nousers",    "owner",
    "noowner",  "group", "nogroup", "silent", "loud",    "lazytime", "nolazytime", "iversion", "noiversion", "async"};

bool is_ignored(std::string_view name) {
  return std::ranges::find(kIgnored, name) != kIgnored.end() || name.starts_with("x-") || name.starts_with("X-") ||
         name.starts_with("comment");
}

const Option* find_option(std::string_view name) {
  for (const auto& option : kOptions) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

std::string apply(ImageMountCommand& command, const OptionText& text) {
  const Option* option = find_option(text.name);
  if (option == nullptr) {
    if (is_ignored(text.name)) return {};
    return fmt::format("unknown option {}", text.text());
  }
  if (option->takes_value != text.has_value)
    return fmt::format("option {} {}", text.name, option->takes_value ? "needs a value" : "takes no value");
  if (option->takes_value && text.value.empty()) return fmt::format("option {} needs a value", text.name);
  const std::string wrong = option->set(command, text.value);
  return wrong.empty() ? "" : fmt::format("{}: {}", text.text(), wrong);
}

std::string apply_list(ImageMountCommand& command, const std::string& list) {
  for (const OptionText& text : split_options(list)) {
    if (std::string wrong = apply(command, text); !wrong.empty()) return wrong;
  }
  return {};
}

std::string contradiction(const ImageMountCommand& command) {
  using Fuse = ImageMountCommand::Fuse;
  if (command.upperdir.empty() != command.workdir.empty()) return "upperdir and workdir: both are needed, or none";
  if (command.standalone && command.fuse == Fuse::kNo) return "--standalone is FUSE: it does not go with --fuse=no";
  if (command.standalone && !command.upperdir.empty())
    return "--standalone is read-only: upperdir needs an overlay of the kernel over it";
  if (command.standalone && !command.idmap.empty())
    return "--standalone maps no owners: idmap needs the kernel's EROFS";
  if (command.fuse == Fuse::kYes && !command.idmap.empty()) return "FUSE maps no owners here: idmap needs --fuse=no";
  return {};
}

}  // namespace

Parsed<ImageMountCommand> parse_image_mount(std::span<const std::string> arguments) {
  ImageMountCommand command;
  std::vector<std::string> words;
  bool fake = false, only_words = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    // -oLIST and -o LIST; --name=value and --name value.
    const auto value_of = [&](std::string_view rest) -> std::optional<std::string> {
      if (!rest.empty()) return std::string(rest);
      if (i + 1 == arguments.size()) return std::nullopt;
      return arguments[++i];
    };
    if (only_words || word.size() < 2 || !word.starts_with('-')) {
      words.push_back(word);
    } else if (word == "--") {
      only_words = true;
    } else if (word == "-h" || word == "--help") {
      command.action = ImageMountCommand::Action::kHelp;
      return command;
    } else if (word.starts_with("-o") || word.starts_with("-t") || word.starts_with("-N")) {
      const auto value = value_of(std::string_view(word).substr(2));
      if (!value) return std::unexpected(fmt::format("{} needs a value", word));
      if (word[1] == 'N') return std::unexpected("-N: mounting in another namespace is not supported");
      if (word[1] == 't' && *value != "composefs") return std::unexpected(fmt::format("unsupported type {}", *value));
      if (word[1] == 'o') {
        if (std::string wrong = apply_list(command, *value); !wrong.empty()) return std::unexpected(std::move(wrong));
      }
    } else if (word.starts_with("--")) {
      const std::size_t equals = word.find('=');
      OptionText text{.name = word.substr(2, equals == std::string::npos ? equals : equals - 2),
                      .value = equals == std::string::npos ? "" : word.substr(equals + 1),
                      .has_value = equals != std::string::npos};
      const Option* option = find_option(text.name);
      if (option != nullptr && option->takes_value && !text.has_value) {
        const auto value = value_of({});
        if (!value) return std::unexpected(fmt::format("{} needs a value", word));
        text.value = *value;
        text.has_value = true;
      }
      if (std::string wrong = apply(command, text); !wrong.empty()) return std::unexpected(std::move(wrong));
    } else {
      // What mount(8) gives to its helpers: nothing of it changes what we do, but for "fake".
      for (const char c : std::string_view(word).substr(1)) {
        if (c == 'f')
          fake = true;
        else if (c != 's' && c != 'n' && c != 'v')
          return std::unexpected(fmt::format("unknown option -{}", c));
      }
    }
  }
  if (words.size() != 2) return std::unexpected("an image and a directory to mount it at are needed (try --help)");
  command.image = words[0];
  command.mountpoint = words[1];
  // A digest that nobody insists on below would protect names only.
  if (command.digest) command.verify = composefs::Verify::kRequire;
  if (std::string wrong = contradiction(command); !wrong.empty()) return std::unexpected(std::move(wrong));
  if (fake) command.action = ImageMountCommand::Action::kNothing;
  return command;
}

std::string image_mount_help(std::string_view program) {
  return fmt::format(R"(Usage: {} [-o OPTION[,OPTION]...] [--OPTION]... IMAGE DIRECTORY

Mounts a composefs image: the names and attributes of IMAGE, the contents of the object directories.

Options, behind -o or as --OPTION:
  basedir=DIR[:DIR]...   object directories
  digest=HEX             IMAGE must have this fs-verity digest; implies verity
  verity                 every object must have the digest that IMAGE says
  tryverity              the same, where it can be checked
  upperdir=DIR           keep changes there, with workdir=DIR
  idmap=FILE             show owners as this user namespace (/proc/PID/ns/user) maps them
  ro, rw                 read-only; with upperdir, rw is the default
  nosuid, nodev, noexec, noatime
  fuse=auto|yes|no       whether FUSE takes part; auto: where the kernel does not do it alone
  standalone             FUSE alone, without an overlay of the kernel
  allow_other            FUSE alone: let other users in (root does by default)
  foreground             stay attached while serving
  threads=N              serving threads
  io_uring=auto|1|0      requests over io_uring; 1: switched on for this mount (as root)
  debug                  every request on stderr

See mount.composefs(8).
)",
                     program);
}

}  // namespace vellum::cli
