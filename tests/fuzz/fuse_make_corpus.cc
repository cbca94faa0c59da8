// Writes the first corpus of fuse_requests and fuse_sequences: fuse_make_corpus DIRECTORY
// One file for each opcode with a body that decodes, one that uses several in a row, and a few sequences.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "fuse/abi.h"
#include "fuse/decode.h"

namespace {

using vellum::fuse::opcode_name;
namespace abi = vellum::fuse::abi;

std::string z(std::string_view text) { return std::string(text) + '\0'; }

std::string zeros(std::size_t count) { return std::string(count, '\0'); }

// As FeedChannel takes it apart.
std::string request(std::uint8_t opcode, const std::string& body, std::uint8_t flags = 0) {
  const auto size = static_cast<std::uint16_t>(body.size());
  std::string text(reinterpret_cast<const char*>(&size), sizeof size);
  text += static_cast<char>(opcode);
  text += '\1';  // node: the root
  text += static_cast<char>(flags);
  return text + body;
}

std::string body_of(abi::Opcode op) {
  using abi::Opcode;
  switch (op) {
    case Opcode::kLookup:
    case Opcode::kUnlink:
    case Opcode::kRmdir:
    case Opcode::kRemovexattr: return z("name");
    case Opcode::kSymlink: return z("name") + z("target");
    case Opcode::kMknod: return zeros(sizeof(abi::MknodIn)) + z("name");
    case Opcode::kMkdir: return zeros(sizeof(abi::MkdirIn)) + z("name");
    case Opcode::kCreate:
    case Opcode::kTmpfile: return zeros(sizeof(abi::CreateIn)) + z("name");
    case Opcode::kRename: return "\1" + zeros(7) + z("name") + z("other");
    case Opcode::kRename2: return "\1" + zeros(15) + z("name") + z("other");
    case Opcode::kLink: return "\2" + zeros(7) + z("name");
    case Opcode::kSetxattr: return "\3" + zeros(15) + z("user.a") + "val";
    case Opcode::kGetxattr: return zeros(8) + z("user.a");
    case Opcode::kSetattr: return zeros(sizeof(abi::SetattrIn));
    case Opcode::kGetattr: return zeros(sizeof(abi::GetattrIn));
    case Opcode::kStatx: return zeros(sizeof(abi::StatxIn));
    case Opcode::kRead:
    case Opcode::kReaddir:
    case Opcode::kReaddirplus: return "\1" + zeros(16) + "\x10" + zeros(22);
    case Opcode::kWrite: return "\1" + zeros(15) + "\4" + zeros(23) + "data";
    case Opcode::kOpen:
    case Opcode::kOpendir:
    case Opcode::kAccess:
    case Opcode::kSyncfs:
    case Opcode::kForget:
    case Opcode::kListxattr:
    case Opcode::kInterrupt: return zeros(8);
    case Opcode::kBatchForget: return "\1" + zeros(7) + "\1" + zeros(15);
    case Opcode::kRelease:
    case Opcode::kReleasedir:
    case Opcode::kFlush:
    case Opcode::kLseek:
    case Opcode::kPoll: return "\1" + zeros(23);
    case Opcode::kFsync:
    case Opcode::kFsyncdir:
    case Opcode::kBmap: return "\1" + zeros(15);
    case Opcode::kIoctl: return "\1" + zeros(23) + "\2" + zeros(3) + "\2" + zeros(3) + "ab";
    case Opcode::kFallocate: return "\1" + zeros(31);
    case Opcode::kCopyFileRange:
    case Opcode::kCopyFileRange64: return "\1" + zeros(15) + "\2" + zeros(39);
    case Opcode::kInit: return zeros(sizeof(abi::InitIn));
    default: return {};
  }
}

void write(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  const std::filesystem::path requests = std::filesystem::path(argv[1]) / "fuse_requests";
  const std::filesystem::path sequences = std::filesystem::path(argv[1]) / "fuse_sequences";
  std::filesystem::create_directories(requests);
  std::filesystem::create_directories(sequences);

  // Protocol 7.45 with all features, as FeedChannel's first 9 bytes say it.
  const std::string hello = "\x0e" + std::string(8, '\xff');
  std::string all = hello;
  for (std::uint8_t opcode = 1; opcode < abi::kOpcodeLimit; ++opcode) {
    const std::string name = opcode_name(opcode);
    if (name == "OPCODE") continue;
    const std::string one = request(opcode, body_of(static_cast<abi::Opcode>(opcode)));
    write(requests / name, hello + one);
    all += one;
  }
  write(requests / "all", all);
  write(requests / "old-kernel", zeros(9) + all.substr(9));
  write(requests / "two-pieces", hello + request(9, body_of(abi::Opcode::kMkdir), 32));
  write(requests / "lost-reply", hello + request(35, body_of(abi::Opcode::kCreate), 16));
  write(requests / "extension", hello + request(9, body_of(abi::Opcode::kMkdir) + zeros(16), 8 | 32));

  std::string every_step = "\x0e";
  for (char step = 0; step < 27; ++step) every_step += std::string(1, '\0') + step + zeros(6);
  write(sequences / "every-step", every_step);
  std::string files = "\x0e";
  for (const char step : {'\x09', '\x0d', '\x0e', '\x08', '\x0c', '\x07', '\x19', '\x10'})
    for (char i = 0; i < 4; ++i) files += std::string("\1") + step + i + std::string("\1\2\3\4\5");
  write(sequences / "files", files);
  std::string directories = zeros(1);
  for (const char step : {'\x01', '\x01', '\x0b', '\x0f', '\x10', '\x06', '\x04', '\x0a', '\x11', '\x15'})
    for (char i = 0; i < 3; ++i) directories += zeros(1) + step + i + i + i + zeros(2);
  write(sequences / "directories", directories);
  return 0;
}
