#include "cli/mkcomposefs_main.h"

#include <fmt/format.h>
#include <getopt.h>

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "cli/image_create.h"
#include "cli/long_options.h"

namespace vellum::cli {
namespace {

enum Option {
  kDigestStore = 256,
  kUseEpoch,
  kSkipDevices,
  kSkipXattrs,
  kUserXattrs,
  kPrintDigest,
  kPrintDigestOnly,
  kFromFile,
  kMinVersion,
  kMaxVersion,
  kThreads,
};

constexpr option kOptions[] = {
    {"digest-store", required_argument, nullptr, kDigestStore},
    {"use-epoch", no_argument, nullptr, kUseEpoch},
    {"skip-devices", no_argument, nullptr, kSkipDevices},
    {"skip-xattrs", no_argument, nullptr, kSkipXattrs},
    {"user-xattrs", no_argument, nullptr, kUserXattrs},
    {"print-digest", no_argument, nullptr, kPrintDigest},
    {"print-digest-only", no_argument, nullptr, kPrintDigestOnly},
    {"from-file", no_argument, nullptr, kFromFile},
    {"min-version", required_argument, nullptr, kMinVersion},
    {"max-version", required_argument, nullptr, kMaxVersion},
    {"threads", required_argument, nullptr, kThreads},
    {nullptr, 0, nullptr, 0},
};

int usage(const std::string& program) {
  fmt::print(stderr,
             "Usage: {} [OPTIONS] SOURCE IMAGE\n"
             "Options:\n"
             "  --digest-store=PATH   Copy the content of files to this directory of objects\n"
             "  --use-epoch           All times become 0\n"
             "  --skip-devices        Leave device nodes out\n"
             "  --skip-xattrs         Leave xattrs out\n"
             "  --user-xattrs         Leave xattrs out, except user.*\n"
             "  --print-digest        Print the image's digest\n"
             "  --print-digest-only   Print the image's digest, and write no image\n"
             "  --from-file           SOURCE is a dump file, or - for standard input\n"
             "  --min-version=N       The lowest format version to write (default=0)\n"
             "  --max-version=N       The highest format version to write (default=1)\n"
             "  --threads=N           How many threads read files (default={})\n",
             program, composefs::default_threads());
  return 1;
}

int complain(const std::string& line) {
  fmt::print(stderr, "{}\n", line);
  return 1;
}

// A version that does not exist is refused where the image is made.
std::uint32_t version(long number) {
  return number < 0 || number > long{composefs::kMostVersion} ? ~std::uint32_t{0} : static_cast<std::uint32_t>(number);
}

}  // namespace

int mkcomposefs_main(const std::string& program, const std::vector<std::string>& arguments) {
  ImageCreate what;
  bool digest_only = false, version_given = false;
  long least = 0, most = 0;
  LongOptions options(program, arguments, ":CR", kOptions);
  while (const auto found = options.next()) {
    switch (found->option) {
      case kDigestStore: what.digest_store = found->value; break;
      case kUseEpoch: what.scan.use_epoch = true; break;
      case kSkipDevices: what.scan.skip_devices = true; break;
      case kSkipXattrs: what.scan.skip_xattrs = true; break;
      case kUserXattrs: what.scan.user_xattrs = true; break;
      case kPrintDigest: what.print_digest = true; break;
      case kPrintDigestOnly: what.print_digest = digest_only = true; break;
      case kFromFile: what.from_dump = true; break;
      case kMinVersion:
        version_given = true;
        if (!parse_long(found->value, &least)) return complain("Invalid min version " + found->value);
        break;
      case kMaxVersion:
        version_given = true;
        if (!parse_long(found->value, &most)) return complain("Invalid max version " + found->value);
        break;
      case kThreads: {
        long threads = 0;
        if (!parse_long(found->value, &threads) || threads <= 0 || threads > 4096)
          return complain("Invalid threads count " + found->value);
        what.scan.threads = static_cast<unsigned>(threads);
        break;
      }
      case ':': return complain("option needs a value");
      default: return usage(program);
    }
  }
  if (version_given) what.versions = {.least = version(least), .most = version(most < least ? least : most)};

  const std::vector<std::string> words = options.rest();
  if (words.empty()) {
    complain("No source path specified");
    return usage(program);
  }
  what.source = words[0];
  if (what.source.empty()) return complain(program + ": Empty source path specified");
  if (words.size() > 2) {
    complain("Too many arguments");
    return usage(program);
  }
  if (words.size() == 1 && !digest_only) {
    complain("No destination path specified");
    return usage(program);
  }
  if (words.size() == 2 && digest_only) {
    complain("Cannot specify destination path with --print-digest-only");
    return usage(program);
  }
  if (words.size() == 2) {
    what.image = words[1];
    if (what.image.empty()) return complain(program + ": failed to open output file: " + Errno(ENOENT).message());
  }
  return create_image(program, what);
}

}  // namespace vellum::cli
