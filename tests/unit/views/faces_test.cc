#include "views/faces.h"

#include <gtest/gtest.h>

#include "views/numbers.h"

namespace vellum::views {
namespace {

using fuse::HandleId;
using fuse::NodeId;

TEST(Faces, AreOneNodeForAllViews) {
  Faces faces(1);
  Faces::Released released;
  const auto a = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  const auto b = faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(*a, *b);
  EXPECT_TRUE(is_face(*a));
  EXPECT_EQ(faces.bound(*a, 1), NodeId{10});
  EXPECT_EQ(faces.bound(*a, 2), NodeId{20});
  EXPECT_TRUE(released.empty());
}

TEST(Faces, EndAtTheirDepth) {
  Faces faces(1);
  Faces::Released released;
  const auto src = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  EXPECT_FALSE(faces.show(*src, "lib", 1, NodeId{11}, released));
  EXPECT_FALSE(Faces(0).show(NodeId::kRoot, "src", 1, NodeId{10}, released));
}

TEST(Faces, GiveBackALookupForEachOneTooMany) {
  Faces faces(1);
  Faces::Released released;
  const auto face = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  EXPECT_EQ(released, (Faces::Released{{1, NodeId{10}}}));
  released.clear();
  faces.show(NodeId::kRoot, "src", 1, NodeId{12}, released);  // removed and made again
  EXPECT_EQ(released, (Faces::Released{{1, NodeId{10}}}));
  EXPECT_EQ(faces.bound(*face, 1), NodeId{12});
}

TEST(Faces, GoWhenTheKernelForgotThemAllTheirLookups) {
  Faces faces(1);
  Faces::Released released;
  const auto face = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released);
  faces.forget(*face, 1, released);
  EXPECT_TRUE(released.empty());
  faces.forget(*face, 1, released);
  EXPECT_EQ(released.size(), 2U);
  EXPECT_EQ(faces.size(), 1U);
  EXPECT_FALSE(faces.face_of(1, NodeId{10}));
}

TEST(Faces, StayWhileOneBelowDoes) {
  Faces faces(2);
  Faces::Released released;
  const auto src = faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  const auto lib = faces.show(*src, "lib", 1, NodeId{11}, released);
  faces.forget(*src, 1, released);
  EXPECT_TRUE(faces.place(*src));
  faces.forget(*lib, 1, released);
  EXPECT_EQ(faces.size(), 1U);
}

TEST(Faces, ANameApartIsTheViewsOwn) {
  Faces faces(1);
  Faces::Released released;
  faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released);
  faces.show(NodeId::kRoot, "src", 2, NodeId{20}, released);
  faces.set_apart(NodeId::kRoot, "src", 1);
  EXPECT_FALSE(faces.shows_face(NodeId::kRoot, "src", 1));
  EXPECT_TRUE(faces.shows_face(NodeId::kRoot, "src", 2));
  EXPECT_FALSE(faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released));
  faces.clear_apart(NodeId::kRoot, "src", 1);
  EXPECT_TRUE(faces.show(NodeId::kRoot, "src", 1, NodeId{10}, released));
}

TEST(Numbers, ComeBackAsTheyWent) {
  const NodeId node{0x0000'1234'5678'9abc};
  EXPECT_EQ(inner(outer(ViewIndex{77}, node)), node);
  EXPECT_EQ(view_of(outer(ViewIndex{77}, node)), 77);
  EXPECT_FALSE(is_face(outer(ViewIndex{kMaxViews - 1}, NodeId{kInnerMask})));
  EXPECT_EQ(inner(outer(ViewIndex{3}, HandleId::kNone)), HandleId::kNone);
  EXPECT_EQ(view_of(outer(ViewIndex{3}, HandleId::kNone)), 3);
}

}  // namespace
}  // namespace vellum::views
