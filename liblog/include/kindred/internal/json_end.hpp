#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// The last members that all objects have: `,"sequence":9,"origin":"log","start_method":"spawn"`, with
/// `,"late":true` where it is.
class JsonEnd {
 public:
  /// `start_method`: left out where it is empty.
  explicit JsonEnd(std::string_view start_method);
  void append(TextBuffer& out, const LogRecord& record) const;

 private:
  std::string start_method_;  ///< the member, ready
  std::string usual_;         ///< what follows the number in most records, filled up to whole copies
  std::size_t usual_bytes_;
};

}  // namespace kindred::internal
