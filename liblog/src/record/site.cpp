#include "record/site.hpp"

#include <memory>
#include <mutex>
#include <unordered_map>

#include "front/small_lock.hpp"
#include "kindred/internal/call_site.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t longest_format = kindred::internal::longest_kept_format;
constexpr std::size_t longest_name = 1024;
constexpr std::size_t most_types = 1024;

std::string_view tail(std::string_view text, std::size_t bytes) noexcept {
  return text.size() <= bytes ? text : text.substr(text.size() - bytes);
}

}  // namespace

void encode_site(std::vector<std::byte>& out, const SiteFacts& facts) {
  const auto format = facts.format.substr(0, longest_format);
  const auto file = tail(facts.file, longest_name);
  const auto function = facts.function.substr(0, longest_name);
  const auto types = facts.types.substr(0, most_types);
  const auto name = facts.level_name.substr(0, 255);
  const std::size_t begin = out.size();
  const std::size_t used =
      site_head_bytes + format.size() + file.size() + function.size() + types.size() + name.size();
  out.resize(begin + (used + 7) / 8 * 8);
  std::byte* to = out.data() + begin;
  const auto put = [&to](const void* bytes, std::size_t count) {
    if (count != 0) std::memcpy(to, bytes, count);
    to += count;
  };
  const std::uint32_t words[3] = {static_cast<std::uint32_t>(out.size() - begin), facts.line,
                                  static_cast<std::uint32_t>(format.size())};
  const std::uint16_t halves[3] = {static_cast<std::uint16_t>(file.size()),
                                   static_cast<std::uint16_t>(function.size()),
                                   static_cast<std::uint16_t>(types.size())};
  const std::uint8_t octets[2] = {static_cast<std::uint8_t>(facts.level),
                                  static_cast<std::uint8_t>(name.size())};
  put(words, sizeof words);
  put(halves, sizeof halves);
  put(octets, sizeof octets);
  for (const auto text : {format, file, function, types, name}) put(text.data(), text.size());
}

namespace {

bool decode_site(std::span<const std::byte> bytes, SiteFacts& facts) noexcept {
  ByteReader reader{bytes};
  if (reader.value<std::uint32_t>() != bytes.size()) return false;
  facts.line = reader.value<std::uint32_t>();
  const auto format = reader.value<std::uint32_t>();
  const auto file = reader.value<std::uint16_t>();
  const auto function = reader.value<std::uint16_t>();
  const auto types = reader.value<std::uint16_t>();
  const auto level = reader.value<std::uint8_t>();
  const auto name = reader.value<std::uint8_t>();
  if (level > static_cast<std::uint8_t>(Level::critical) || types > most_types || format > longest_format)
    return false;
  facts.level = static_cast<Level>(level);
  facts.format = reader.text(format);
  facts.file = reader.text(file);
  facts.function = reader.text(function);
  facts.types = reader.text(types);
  facts.level_name = reader.text(name);
  return reader.ok();
}

struct Sites {
  SmallLock lock;
  std::unordered_map<std::string, std::unique_ptr<const Site>> all;
  std::size_t bytes = 0;
};
Sites& sites() {
  static auto* const known = new Sites;  // never destroyed: records point into it
  return *known;
}
constexpr std::size_t most_bytes = 64U * 1024 * 1024;
constexpr std::size_t most_bytes_without_place = most_bytes + 4U * 1024 * 1024;

// The table is full: the record is kept, but its place in the code is not, nor, where that is not enough, its
// text. Only a process that lies about the types of its arguments, too, finds no site at all.
const Site* intern_without_place(SiteFacts facts) {
  facts.file = {};
  facts.function = {};
  facts.line = 0;
  for (;;) {
    std::vector<std::byte> bytes;
    encode_site(bytes, facts);
    const std::string key{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    Sites& known = sites();
    const std::lock_guard hold{known.lock};
    if (const auto found = known.all.find(key); found != known.all.end()) return found->second.get();
    constexpr std::string_view unknown = "(no room is left for the texts of places that log)";
    auto site = std::make_unique<const Site>(facts);
    const std::size_t takes = bytes.size() + site->plan().bytes();
    if (known.bytes + takes <= most_bytes_without_place) {
      known.bytes += takes;
      return known.all.emplace(key, std::move(site)).first->second.get();
    }
    if (facts.format == unknown) return nullptr;
    facts.format = unknown;
  }
}

}  // namespace

const Site* intern_site(std::span<const std::byte> bytes) {
  SiteFacts facts;
  if (!decode_site(bytes, facts)) return nullptr;
  const std::string key{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  Sites& known = sites();
  std::unique_lock hold{known.lock};
  if (const auto found = known.all.find(key); found != known.all.end()) return found->second.get();
  auto site = std::make_unique<const Site>(facts);
  const std::size_t takes = bytes.size() + site->plan().bytes();
  if (known.bytes + takes > most_bytes) {
    hold.unlock();
    return intern_without_place(facts);
  }
  const Site* const result = site.get();
  known.all.emplace(key, std::move(site));
  known.bytes += takes;
  return result;
}

const Site* intern_site(const SiteFacts& facts) {
  std::vector<std::byte> bytes;
  encode_site(bytes, facts);
  return intern_site(bytes);
}

Site::Site(const SiteFacts& facts)
    : level_{facts.level},
      level_name_{facts.level_name},
      file_{facts.file},
      function_{facts.function},
      source_{.file = file_, .line = facts.line, .function = function_},
      plan_{facts.format, facts.types} {}

bool Site::format(std::span<const std::byte> arguments, TextBuffer& message,
                  std::vector<Field>& fields) const {
  Arguments decoded;
  if (!plan_.decode(arguments, decoded, fields)) return false;
  plan_.append(message, decoded);
  return true;
}

}  // namespace kindred::internal
