#pragma once

#include <string_view>

namespace kindred::view {

/// A file that was built into this program.
struct PageFile {
  std::string_view path;  ///< "/view.js"
  std::string_view type;
  std::string_view bytes;
};
/// Returns the file of that path; null: there is none.
[[nodiscard]] const PageFile* find_page_file(std::string_view path) noexcept;

}  // namespace kindred::view
