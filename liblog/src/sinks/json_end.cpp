#include "kindred/internal/json_end.hpp"

#include <cstring>

#include <fmt/format.h>

#include "record/small_number.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t copied_at_once = 16;

}  // namespace

JsonEnd::JsonEnd(std::string_view start_method)
    : start_method_{start_method.empty() ? std::string{}
                                         : fmt::format(",\"start_method\":\"{}\"", start_method)},
      usual_{",\"origin\":\"log\"" + start_method_},
      usual_bytes_{usual_.size()} {
  usual_.resize((usual_bytes_ + copied_at_once - 1) / copied_at_once * copied_at_once);
}

void JsonEnd::append(TextBuffer& out, const LogRecord& record) const {
  constexpr std::string_view sequence = ",\"sequence\":";
  constexpr std::size_t longest_number = 24;
  char* to = out.reserve(sequence.size() + longest_number + usual_.size());
  std::memcpy(to, sequence.data(), sequence.size());
  to = write_number(to + sequence.size(), record.sequence);
  if (record.origin == Origin::log && !record.late) [[likely]] {
    const char* const from = usual_.data();
    for (std::size_t at = 0; at < usual_bytes_; at += copied_at_once)
      std::memcpy(to + at, from + at, copied_at_once);
    return out.end_at(to + usual_bytes_);
  }
  out.end_at(to);
  out.append(",\"origin\":\"");
  out.append(to_string(record.origin));
  out.append(record.late ? "\",\"late\":true" : "\"");
  out.append(start_method_);
}

}  // namespace kindred::internal
