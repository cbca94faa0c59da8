#include "sys/pipe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "sys/file.h"

namespace vellum::sys {
namespace {

constexpr std::size_t kPage = 4096;

UniqueFd file_with(std::string_view content) {
  UniqueFd file(::memfd_create("pipe-test", MFD_CLOEXEC));
  EXPECT_EQ(pwrite(file, std::as_bytes(std::span(content)), 0).value_or(0), content.size());
  return file;
}

std::string content_of(FdRef file) {
  std::string content(file_size(file).value_or(0), '\0');
  EXPECT_EQ(pread(file, std::as_writable_bytes(std::span(content)), 0).value_or(0), content.size());
  return content;
}

std::string some_text(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26 + i / kPage % 3);
  return text;
}

TEST(PipeTest, MovesPiecesBetweenFiles) {
  auto pipe = Pipe::create(16);
  ASSERT_TRUE(pipe);
  ASSERT_GE(pipe->pages(), 16U);
  const std::string text = some_text(10 * kPage + 17);
  const UniqueFd from = file_with(text), to = file_with("");
  EXPECT_EQ(pipe->fill_from(from, kPage, text.size()).value_or(0), text.size() - kPage);
  EXPECT_EQ(pipe->empty_into(to, 5, text.size()).value_or(0), text.size() - kPage);
  EXPECT_EQ(content_of(to), std::string(5, '\0') + text.substr(kPage));
}

TEST(PipeTest, OwnBytesGoBeforeThoseOfAFile) {
  auto pipe = Pipe::create(4);
  ASSERT_TRUE(pipe);
  const std::string head = "head:";
  EXPECT_EQ(pipe->write(std::as_bytes(std::span(head))).value_or(0), head.size());
  EXPECT_EQ(pipe->fill_from(file_with("and data"), 0, 8).value_or(0), 8U);
  std::string out(20, '\0');
  EXPECT_EQ(pipe->read(std::as_writable_bytes(std::span(out))).value_or(0), 13U);
  EXPECT_EQ(out.substr(0, 13), "head:and data");
}

TEST(PipeTest, NeverWaits) {
  auto pipe = Pipe::create(4);
  ASSERT_TRUE(pipe);
  const UniqueFd from = file_with(some_text(2 * pipe->pages() * kPage)), to = file_with("");
  std::string out(8, '\0');
  EXPECT_EQ(pipe->read(std::as_writable_bytes(std::span(out))).value_or(1), 0U);
  const auto nothing = pipe->empty_into(to, 0, 8);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().value(), EAGAIN);
  EXPECT_EQ(pipe->fill_from(from, 0, 2 * pipe->pages() * kPage).value_or(0), pipe->pages() * kPage);
  const auto full = pipe->fill_from(from, 0, 1);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().value(), EAGAIN);
}

TEST(PipeTest, WhatAFileRefusesStaysInside) {
  auto pipe = Pipe::create(4);
  ASSERT_TRUE(pipe);
  EXPECT_EQ(pipe->fill_from(file_with("data"), 0, 4).value_or(0), 4U);
  const UniqueFd read_only(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(pipe->empty_into(read_only, 0, 4));
  std::string out(4, '\0');
  EXPECT_EQ(pipe->read(std::as_writable_bytes(std::span(out))).value_or(0), 4U);
  EXPECT_EQ(out, "data");
}

}  // namespace
}  // namespace vellum::sys
