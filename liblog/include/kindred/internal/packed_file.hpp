#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "kindred/file_options.hpp"

namespace kindred::internal {

/// What a file's name has at its end when it is packed so: "", ".gz", ".zst".
[[nodiscard]] std::string_view suffix_of(Compression compression) noexcept;
inline constexpr std::string_view unfinished_suffix = ".part";

/// Packs `path` to `path` + suffix, and removes it: the packed file is written under the name with ".part" at
/// its end, brought to the disk, given its name, and only then the source goes. Returns false where `cancel`
/// turned true first; nothing has changed then. Errors: `SystemError`; the source is untouched.
bool pack_file(const std::string& path, Compression compression, const std::atomic<bool>& cancel);

/// Reads a file, unpacked where it begins as gz or zst do, whatever it is called. One thread at a time.
class PackedFileReader {
 public:
  /// Errors: `SystemError`, `UsageError` (a directory).
  explicit PackedFileReader(const std::string& path);
  ~PackedFileReader();
  PackedFileReader(PackedFileReader&&) noexcept;
  PackedFileReader& operator=(PackedFileReader&&) noexcept;
  /// Returns the number of bytes, 0 at the end. Errors: `SystemError` (EBADMSG where packed data is damaged
  /// or ends early).
  std::size_t read(char* target, std::size_t bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Do both files hold the same, once unpacked? False where one cannot be read, or `cancel` turned true.
[[nodiscard]] bool same_content(const std::string& one, const std::string& other,
                                const std::atomic<bool>& cancel) noexcept;

}  // namespace kindred::internal
