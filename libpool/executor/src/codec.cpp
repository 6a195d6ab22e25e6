#include "kindred/codec.hpp"

#include <future>
#include <ios>
#include <set>
#include <unordered_map>

#include "kindred/error.hpp"
#include "kindred/internal/codec_task.hpp"

namespace kindred::internal {

void throw_nested_too_deep() {
  throw UsageError{
      "a value is nested more than " + std::to_string(nesting_limit) +
      " levels deep, which is more than can cross to another process. Pass long chains as a container of their elements."};
}
void throw_message_too_deep() {
  throw DecodeError{"the message holds a value that is nested more than " + std::to_string(nesting_limit) +
                    " levels deep"};
}
void throw_colliding_keys() {
  throw DecodeError{
      "the message holds a hash table whose keys collide, so that filling it would take very long. Send such "
      "keys in a vector or an ordered map, or give their type a better std::hash"};
}
void throw_bad_byte(const char* what, unsigned value) {
  throw DecodeError{std::string{"the message is damaged: "} + what + " is " + std::to_string(value)};
}
void throw_valueless_variant() {
  throw UsageError{
      "a std::variant without a value (valueless_by_exception) cannot cross to another process. Assign it before it is passed."};
}

void throw_null_text() {
  throw UsageError{
      "a null `const char*` was passed to a task that takes a text. Pass \"\" or a std::optional<std::string>."};
}

// The categories that every program has. An error code of another one would need its category's address in
// the other process.
const std::error_category& standard_category(std::uint8_t number) {
  switch (number) {
    case 0: return std::generic_category();
    case 1: return std::system_category();
    case 2: return std::iostream_category();
    default: return std::future_category();
  }
}
std::uint8_t category_number(const std::error_category& category) noexcept {
  for (std::uint8_t i = 0; i != unknown_category; ++i) {
    if (standard_category(i) == category) return i;
  }
  return unknown_category;
}

void put_error_category(Encoder& encoder, const std::error_category& category) {
  const auto number = category_number(category);
  if (number == unknown_category) {
    throw UsageError{
        std::string{"an error code of category '"} + category.name() +
        "' cannot cross to another process, which knows generic, system, iostream and future. Pass its value() and message()."};
  }
  encoder.write_value(number);
}
const std::error_category& get_error_category(Decoder& decoder) {
  return standard_category(get_byte(decoder, unknown_category, "the category of an error code"));
}

// --- what archives remember

namespace {

constexpr std::uint32_t is_new =
    0x80000000U;  // cereal's mark on the number of what it sees for the first time

struct Visits {
  std::set<std::pair<std::string_view, const void*>> seen;
  bool first(const std::type_info& type, const void* base) { return seen.emplace(type.name(), base).second; }
};

}  // namespace

struct WrittenObjects::Tables {
  std::unordered_map<const void*, std::uint32_t> numbers;
  std::vector<std::shared_ptr<const void>> kept;
  std::unordered_map<std::string, std::uint32_t> types;
  Visits visits;
};

WrittenObjects::WrittenObjects() noexcept = default;
WrittenObjects::~WrittenObjects() = default;

WrittenObjects::Tables& WrittenObjects::tables() {
  if (!tables_) tables_ = std::make_unique<Tables>();
  return *tables_;
}
std::uint32_t WrittenObjects::number_of(const std::shared_ptr<const void>& object) {
  if (!object) return 0;
  auto& [numbers, kept, types, visits] = tables();
  const auto [at, added] = numbers.emplace(object.get(), static_cast<std::uint32_t>(numbers.size() + 1));
  if (added) kept.push_back(object);
  return at->second | (added ? is_new : 0U);
}
std::uint32_t WrittenObjects::number_of_type(const char* name) {
  auto& types = tables().types;
  const auto [at, added] = types.emplace(name, static_cast<std::uint32_t>(types.size() + 1));
  return at->second | (added ? is_new : 0U);
}
bool WrittenObjects::first_visit(const std::type_info& type, const void* base) {
  return tables().visits.first(type, base);
}

struct ReadObjects::Tables {
  struct Object {
    std::shared_ptr<void> object;
    const std::type_info* type = nullptr;
  };
  std::unordered_map<std::uint32_t, Object> objects;
  std::unordered_map<std::uint32_t, std::string> types;
  Visits visits;
};

ReadObjects::ReadObjects() noexcept = default;
ReadObjects::~ReadObjects() = default;

ReadObjects::Tables& ReadObjects::tables() {
  if (!tables_) tables_ = std::make_unique<Tables>();
  return *tables_;
}
void ReadObjects::add(std::uint32_t number, std::shared_ptr<void> object, const std::type_info& type) {
  if (!tables().objects.emplace(number & ~is_new, Tables::Object{std::move(object), &type}).second) {
    throw DecodeError{"the message brings shared object " + std::to_string(number & ~is_new) + " twice"};
  }
}
std::shared_ptr<void> ReadObjects::object(std::uint32_t number, const std::type_info& type) {
  if (number == 0) return nullptr;
  const auto& objects = tables().objects;
  const auto found = objects.find(number);
  if (found == objects.end())
    throw DecodeError{"the message names shared object " + std::to_string(number) + " before it brings it"};
  if (*found->second.type != type) {
    throw DecodeError{"the message takes shared object " + std::to_string(number) +
                      " for one of another type"};
  }
  return found->second.object;
}
void ReadObjects::add_type(std::uint32_t number, const std::string& name) {
  tables().types.emplace(number & ~is_new, name);
}
std::string ReadObjects::type_named(std::uint32_t number) {
  const auto& types = tables().types;
  const auto found = types.find(number);
  if (found == types.end())
    throw DecodeError{"the message names polymorphic type " + std::to_string(number) +
                      " before it brings it"};
  return found->second;
}
bool ReadObjects::first_visit(const std::type_info& type, const void* base) {
  return tables().visits.first(type, base);
}

}  // namespace kindred::internal
