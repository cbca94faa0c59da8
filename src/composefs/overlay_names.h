// The xattr names by which an image speaks to overlayfs.
#pragma once

#include <string_view>

namespace vellum::composefs {

inline constexpr std::string_view kOverlayPrefix = "trusted.overlay.";
inline constexpr std::string_view kEscapedPrefix = "trusted.overlay.overlay.";
inline constexpr std::string_view kMetacopyName = "trusted.overlay.metacopy";
inline constexpr std::string_view kRedirectName = "trusted.overlay.redirect";
inline constexpr std::string_view kOpaqueName = "trusted.overlay.opaque";
inline constexpr std::string_view kEscapedWhiteout = "trusted.overlay.overlay.whiteout";
inline constexpr std::string_view kEscapedWhiteouts = "trusted.overlay.overlay.whiteouts";
inline constexpr std::string_view kEscapedOpaque = "trusted.overlay.overlay.opaque";
inline constexpr std::string_view kUserWhiteout = "user.overlay.whiteout";
inline constexpr std::string_view kUserWhiteouts = "user.overlay.whiteouts";
inline constexpr std::string_view kUserOpaque = "user.overlay.opaque";

}  // namespace vellum::composefs
