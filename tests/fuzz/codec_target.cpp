// What a worker sends as a value or an exception, read as each kind of type.
#include <chrono>
#include <deque>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

#include "fuzz.hpp"
#include "kindred/codec.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/task_error.hpp"

using namespace kindred;
using namespace kindred::internal;
using kindred::fuzz::Bytes;

namespace {

struct Nothing {};
struct Point {
  double x = 0, y = 0;
};
struct Order {
  std::string name;
  std::vector<Point> points;
  std::optional<std::map<std::string, int>> counts;
};
struct Tree {
  int value = 0;
  std::vector<Tree> children;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value, children);
  }
};
struct Chain {
  int value = 0;
  std::unique_ptr<Chain> next;
};
enum class Color : std::uint8_t { red, green };

using Types =
    std::tuple<int, std::string, std::vector<int>, std::vector<bool>, std::vector<std::string>,
               std::list<std::vector<std::uint8_t>>, std::map<std::string, std::vector<double>>,
               std::unordered_map<int, std::string>, std::set<std::string>,
               std::deque<std::pair<int, std::string>>, std::optional<std::string>,
               std::variant<int, std::string, std::vector<int>>, std::tuple<int, std::string, double>,
               std::unique_ptr<std::string>, std::shared_ptr<Order>, Order, std::vector<Order>, Tree, Chain,
               std::filesystem::path, std::error_code, std::chrono::nanoseconds, std::vector<Nothing>,
               std::vector<std::optional<Nothing>>, std::array<std::string, 3>, Color, std::vector<Color>,
               std::vector<std::vector<std::vector<std::string>>>, std::vector<std::variant<Nothing, int>>>;

std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& room = *static_cast<std::vector<std::byte>*>(self);
  room.resize(2 * (written.size() + more));
  return room;
}

template <class T>
void read(fuzz::Input input) {
  // In memory of its own, so that a byte beyond it is seen.
  const std::vector<std::byte> bytes{input.begin(), input.end()};
  Decoder decoder{ContextId{}, bytes};
  const T value = decode<T>(decoder);
  // What can be read can be written, and then be read as the same bytes.
  std::vector<std::byte> room(64), again(64);
  Encoder encoder{ContextId{}, room, grow, &room};
  encode(encoder, value);
  Decoder second{ContextId{}, encoder.written()};
  const T copy = decode<T>(second);
  Encoder other{ContextId{}, again, grow, &again};
  encode(other, copy);
  if constexpr (!std::is_same_v<T, std::unordered_map<int, std::string>>) {
    if (!std::ranges::equal(encoder.written(), other.written())) __builtin_trap();
  }
}

template <std::size_t... I>
void read_one(std::size_t which, fuzz::Input input, std::index_sequence<I...>) {
  (void)((which == I ? (read<std::tuple_element_t<I, Types>>(input), true) : false) || ...);
}

template <class T>
void seed_of(const fuzz::Seed& seed, std::string_view name, std::uint8_t which, const T& value) {
  std::vector<std::byte> room(64);
  Encoder encoder{ContextId{}, room, grow, &room};
  encoder.write_value(which);
  encode(encoder, value);
  seed(name, encoder.written());
}

}  // namespace

KINDRED_FUZZ_TARGET(codec) {
  Bytes bytes{input};
  const auto which = bytes.value<std::uint8_t>() % std::tuple_size_v<Types>;
  try {
    read_one(which, bytes.rest(), std::make_index_sequence<std::tuple_size_v<Types>>{});
  } catch (const DecodeError&) {  // what it is for
  } catch (const UsageError&) {   // nested too deep
  }
}

KINDRED_FUZZ_SEEDS(codec) {
  seed_of(seed, "strings", 4, std::vector<std::string>{"a", "bc", ""});
  seed_of(seed, "map", 6, std::map<std::string, std::vector<double>>{{"a", {1, 2}}, {"b", {}}});
  seed_of(seed, "order", 15, Order{"name", {{1, 2}, {3, 4}}, std::map<std::string, int>{{"x", 1}}});
  seed_of(seed, "variant", 11, std::variant<int, std::string, std::vector<int>>{std::vector<int>{1, 2, 3}});
  seed_of(seed, "tree", 17, Tree{1, {{2, {}}, {3, {{4, {}}}}}});
  seed_of(seed, "bits", 3, std::vector<bool>{true, false, true, true, false, false, true, false, true});
  seed_of(seed, "error_code", 20, std::make_error_code(std::errc::timed_out));
  seed_of(seed, "nothings", 22, std::vector<Nothing>(3));
  seed_of(seed, "nested", 27, std::vector<std::vector<std::vector<std::string>>>{{{"x"}, {}}, {}});
}

KINDRED_FUZZ_TARGET(exception) {
  const std::vector<std::byte> bytes{input.begin(), input.end()};
  Decoder decoder{ContextId{}, bytes};
  try {
    std::rethrow_exception(decode_exception(
        decoder,
        {.task_id = 41, .task_name = "area", .worker = 3, .pid = 7712, .incarnation = 1, .attempt = 1}));
  } catch (const std::exception& error) {
    if (std::string_view{error.what()}.size() > 64 * 1024 * 1024) __builtin_trap();
  }
}

KINDRED_FUZZ_SEEDS(exception) {
  const auto write = [&](std::string_view name, auto&& throwing) {
    std::vector<std::byte> room(64);
    Encoder encoder{ContextId{}, room, grow, &room};
    try {
      throwing();
    } catch (...) {
      replace_by_failure(encoder, 0, 0, TaskPhase::running, false);
    }
    seed(name, encoder.written());
  };
  write("runtime_error", [] { throw std::runtime_error{"text"}; });
  write("int", [] { throw 5; });
  write("nested", [] {
    try {
      throw std::out_of_range{"inner"};
    } catch (...) {
      std::throw_with_nested(std::logic_error{"outer"});
    }
  });
  write("system_error", [] { throw std::system_error{std::make_error_code(std::errc::timed_out), "text"}; });
  write("filesystem_error", [] {
    throw std::filesystem::filesystem_error{"text", "/a", "/b", std::make_error_code(std::errc::timed_out)};
  });
}
