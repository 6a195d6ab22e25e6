// Every type that may cross does, as itself; bytes that were made up or damaged give a DecodeError, and
// never more than that.
#include <any>
#include <atomic>
#include <bitset>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <queue>
#include <random>
#include <set>
#include <stack>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <valarray>
#include <variant>

#include <boost/container/flat_map.hpp>
#include <boost/container/small_vector.hpp>

#include "kindred/codec.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/codec_task.hpp"
#include "kindred/internal/task_entry.hpp"
#include "kindred/worker.hpp"
#include "support/test.hpp"
// After the codec on purpose: a program may include cereal wherever it likes (exception_codec_test.cpp has it
// before).
#include <cereal/cereal.hpp>
#include <cereal/types/memory.hpp>
#include <cereal/types/polymorphic.hpp>
#include <cereal/types/vector.hpp>

using kindred::UsageError;
using kindred::Worker;
using namespace kindred::internal;

namespace codec_test {

struct Bytes {
  std::vector<std::byte> memory = std::vector<std::byte>(16);
  static std::span<std::byte> grow(void* owner, std::span<const std::byte> written, std::size_t more) {
    auto& bytes = *static_cast<Bytes*>(owner);
    bytes.memory.resize(written.size() +
                        more);  // no more than was asked for, so that the sanitizers see a write beyond it
    return bytes.memory;
  }
};

template <class T>
std::vector<std::byte> bytes_of(const T& value) {
  Bytes bytes;
  Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
  encode(encoder, value);
  const auto written = encoder.written();
  CHECK(encoder.depth() == 0);
  return {written.begin(), written.end()};
}
template <class T>
T value_of(std::span<const std::byte> bytes) {
  // A copy of just that length: reading beyond it is seen by the sanitizers.
  const std::vector<std::byte> exact(bytes.begin(), bytes.end());
  Decoder decoder{ContextId{}, exact};
  T value = decode<T>(decoder);
  CHECK(decoder.left() == 0);
  CHECK(decoder.depth() == 0);
  return value;
}
template <class T>
T there_and_back(const T& value) {
  return value_of<T>(bytes_of(value));
}
template <class T>
void check_same(const T& value) {
  INFO(std::string{type_name<T>()});
  const auto bytes = bytes_of(value);
  CHECK(bytes.size() >= min_bytes<T>());
  CHECK((value_of<T>(bytes) == value));
}

/// Reads damaged copies of a message: each must give a value or a DecodeError (or the error of the type's own
/// words).
template <class T>
void check_hardened(const T& value) {
  INFO(std::string{type_name<T>()});
  const auto whole = bytes_of(value);
  const auto try_to_read = [](const std::vector<std::byte>& bytes) {
    Decoder decoder{ContextId{}, bytes};
    try {
      static_cast<void>(decode<T>(decoder));
      return true;
    } catch (const DecodeError&) {
      return false;
    } catch (const std::exception&) {
      return false;
    }
  };
  for (std::size_t length = 0; length != whole.size(); ++length) {
    CHECK_FALSE(try_to_read({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)}));
  }
  for (std::size_t i = 0; i != whole.size(); ++i) {
    for (const unsigned other : {0x01U, 0x80U, 0xffU}) {
      auto bytes = whole;
      bytes[i] ^= static_cast<std::byte>(other);
      try_to_read(bytes);
    }
  }
  std::mt19937 random{12345};
  for (int round = 0; round != 300; ++round) {
    auto bytes = whole;
    for (int i = 0; i != 4 && !bytes.empty(); ++i)
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    if (round % 3 == 0) bytes.resize(random() % (bytes.size() + 1));
    try_to_read(bytes);
  }
}

template <class T>
void check_same_and_hardened(const T& value) {
  check_same(value);
  check_hardened(value);
}

enum class Color : short { red, green = 500 };
struct Pod {
  int a;
  double b;
  friend bool operator==(const Pod&, const Pod&) = default;
};
struct Flagged {
  int a;
  bool b;
  friend bool operator==(const Flagged&, const Flagged&) = default;
};
struct Named {
  std::string name;
  std::vector<Flagged> flags;
  std::optional<Pod> pod;
  std::variant<int, std::string> alternative;
  friend bool operator==(const Named&, const Named&) = default;
};
struct Single {
  std::vector<int> only;
  friend bool operator==(const Single&, const Single&) = default;
};
struct Nothing {
  friend bool operator==(const Nothing&, const Nothing&) = default;
};
struct WithArray {
  char name[16];
  int values[3];
};
struct Derived : Pod {
  int c;
};
struct Node {
  int value = 0;
  std::vector<Node> children;
  std::unique_ptr<Node> next;
};
struct MoveOnly {
  std::unique_ptr<int> pointer;
  std::string text;
};
class Opaque {
 public:
  explicit Opaque(int value) : value_{value} {}
  friend bool operator==(const Opaque&, const Opaque&) = default;

 private:
  int value_;
};
union Number {
  int whole;
  float broken;
};

// A type of kindred's own.
struct Handle {
  int id = 0;
  friend bool operator==(const Handle&, const Handle&) = default;
};
struct Forbidden {};

}  // namespace codec_test

template <>
struct kindred::internal::CodecTraits<codec_test::Handle> {
  static constexpr bool crosses = true;
  static void encode(Encoder& encoder, const codec_test::Handle& handle) {
    encoder.write_value(handle.id + 1);
  }
  static codec_test::Handle decode(Decoder& decoder) { return {decoder.read_value<int>() - 1}; }
};
template <>
struct kindred::internal::CodecTraits<codec_test::Forbidden> {
  static constexpr bool crosses = false;
};

using namespace codec_test;

TEST_CASE("numbers, enums and bytes cross as they are") {
  check_same_and_hardened(1);
  check_same(2.5);
  check_same(2.5L);
  check_same('c');
  check_same(u8'c');
  check_same(true);
  check_same(Color::green);
  check_same(std::byte{3});
  check_same(std::uint64_t{1} << 63U);
  check_same(std::complex<double>{1, -2});
  check_same(std::chrono::milliseconds{5});
  check_same(std::chrono::steady_clock::now());
  check_same(
      std::chrono::year_month_day{std::chrono::year{2024}, std::chrono::month{2}, std::chrono::day{29}});
  check_same_and_hardened(std::bitset<70>{0x123456789abcdefULL});
  check_same(std::monostate{});
  check_same(Opaque{4});
  CHECK(bytes_of(std::int32_t{1}).size() == 4);
  CHECK(bytes_of(Color::red).size() == 2);
}

TEST_CASE("strings cross with whatever is in them") {
  check_same_and_hardened(std::string{"hello"});
  check_same(std::string{});
  check_same(std::string("a\0b\xff", 4));
  check_same(std::wstring{L"wide"});
  check_same(std::u8string{u8"eight"});
  check_same(std::u16string{u"sixteen"});
  check_same(std::u32string{U"thirty-two"});
  check_same(std::filesystem::path{"/a/b c"});
}

TEST_CASE("the standard's containers cross") {
  check_same_and_hardened(std::vector<int>{1, 2, 3});
  check_same_and_hardened(std::vector<std::string>{"a", "", "ccc"});
  check_same_and_hardened(
      std::vector<bool>{true, false, true, true, false, false, true, true, true, false, true});
  check_same(std::vector<bool>{});
  check_same_and_hardened(std::vector<std::vector<bool>>{{true}, {}, {false, false}});
  check_same_and_hardened(std::array<int, 3>{1, 2, 3});
  check_same(std::array<int, 0>{});
  check_same_and_hardened(std::array<std::string, 2>{"a", "b"});
  check_same_and_hardened(std::array<bool, 40>{true, false, true});
  check_same_and_hardened(std::deque<std::string>{"x", "y"});
  check_same(std::deque<int>{1, 2});
  check_same_and_hardened(std::list<double>{1, 2});
  check_same_and_hardened(std::forward_list<std::string>{"a", "bb"});
  check_same_and_hardened(std::map<std::string, int>{{"a", 1}, {"b", 2}});
  check_same_and_hardened(std::multimap<int, std::string>{{1, "2"}, {1, "3"}});
  check_same_and_hardened(std::set<int>{3, 1});
  check_same(std::set<int, std::greater<>>{3, 1});
  check_same(std::multiset<int>{3, 1, 3});
  check_same_and_hardened(std::unordered_map<int, std::string>{{1, "a"}, {2, "b"}});
  check_same_and_hardened(std::unordered_set<std::string>{"a", "b"});
  check_same(std::unordered_multiset<int>{1, 1, 2});
  check_same(std::unordered_multimap<int, bool>{{1, true}, {1, false}});
  check_same(boost::container::flat_map<int, std::string>{{1, "a"}});
  check_same(boost::container::small_vector<int, 2>{1, 2, 3});

  std::stack<int> stack;
  stack.push(1);
  stack.push(2);
  check_same(stack);
  std::queue<std::string> queue;
  queue.push("first");
  check_same_and_hardened(queue);
  std::priority_queue<int> priorities;
  for (const int i : {3, 9, 4}) priorities.push(i);
  CHECK(there_and_back(priorities).top() == 9);
  const auto values = there_and_back(std::valarray<double>{1, 2, 3});
  CHECK((values.size() == 3 && values[2] == 3));
}

TEST_CASE("pairs, tuples, optionals and variants cross") {
  check_same_and_hardened(std::pair<int, std::string>{1, "a"});
  check_same_and_hardened(std::tuple<int, std::string, bool>{1, "a", true});
  check_same(std::tuple<>{});
  check_same_and_hardened(std::vector<std::tuple<>>(3));
  check_same_and_hardened(std::optional<std::string>{"q"});
  check_same(std::optional<int>{});
  check_same_and_hardened(std::optional<std::optional<bool>>{std::optional<bool>{}});
  check_same_and_hardened(std::variant<int, std::string, std::monostate>{"abc"});
  check_same(std::variant<int, std::string, std::monostate>{std::monostate{}});
  check_same(std::variant<int, int>{std::in_place_index<1>, 5});
  check_same_and_hardened(std::vector<std::variant<bool, std::vector<int>>>{true, std::vector<int>{1}});
}

TEST_CASE("smart pointers cross by value, and null stays null") {
  CHECK(*there_and_back(std::unique_ptr<int>{new int{4}}) == 4);
  CHECK(there_and_back(std::unique_ptr<std::string>{}) == nullptr);
  CHECK(*there_and_back(std::shared_ptr<const std::string>{new std::string{"a"}}) == "a");
  CHECK(there_and_back(std::shared_ptr<int>{}) == nullptr);
  const auto one = std::make_shared<int>(1);
  const auto two = there_and_back(std::vector{one, one});
  CHECK(two[0] != two[1]);
  CHECK(*two[1] == 1);
  check_hardened(std::unique_ptr<std::string>{new std::string{"abc"}});
}

TEST_CASE("aggregates cross member by member, with nothing to write") {
  check_same_and_hardened(Pod{1, 2});
  check_same_and_hardened(Flagged{1, true});
  check_same_and_hardened(Named{"name", {{1, true}, {2, false}}, Pod{3, 4}, "text"});
  check_same(Single{{1, 2}});
  check_same(Nothing{});
  check_same_and_hardened(std::vector<Nothing>(5));
  check_same_and_hardened(std::vector<Pod>{{1, 2}, {3, 4}});
  check_same_and_hardened(std::map<int, Named>{{1, {"a", {}, {}, 3}}});
  const auto moved = there_and_back(MoveOnly{std::make_unique<int>(3), "t"});
  CHECK((*moved.pointer == 3 && moved.text == "t"));

  const auto with_array = there_and_back(WithArray{"abc", {1, 2, 3}});
  CHECK((std::string{with_array.name} == "abc" && with_array.values[2] == 3));
  const auto derived = there_and_back(Derived{{1, 2}, 3});
  CHECK((derived.a == 1 && derived.c == 3));
  CHECK(there_and_back(Number{5}).whole == 5);

  CHECK(kind<Pod>() == Kind::bytes);
  CHECK(kind<Flagged>() == Kind::aggregate);  // a bool that is neither 0 nor 1 must not come to be
}

TEST_CASE("a class that contains itself crosses, and its depth is bounded both ways") {
  Node root;
  root.children.resize(2);
  root.children[1].value = 5;
  root.next = std::make_unique<Node>();
  root.next->value = 6;
  const auto back = there_and_back(root);
  CHECK((back.children[1].value == 5 && back.next->value == 6));
  check_hardened(root);

  const auto chain = [](int length) {
    auto node = std::make_unique<Node>();
    for (int i = 1; i < length; ++i) {
      auto before = std::make_unique<Node>();
      before->next = std::move(node);
      node = std::move(before);
    }
    return node;
  };
  CHECK(there_and_back(chain(400)) != nullptr);
  CHECK_THROWS_CONTAINS(bytes_of(chain(600)), UsageError, "nested more than 500 levels deep");

  // What a hostile writer would send: one mark after the other, for ever.
  std::vector<std::byte> bytes;
  for (int i = 0; i != 100'000; ++i) {
    bytes.insert(bytes.end(), 4, std::byte{0});  // value
    bytes.insert(bytes.end(), 8, std::byte{0});  // no children
    bytes.push_back(std::byte{1});               // and a next
  }
  Decoder decoder{ContextId{}, bytes};
  CHECK_THROWS_CONTAINS(decode<Node>(decoder), DecodeError, "500 levels deep");
}

TEST_CASE("a bool, an index or a mark that cannot be is refused") {
  const auto one = [](unsigned value) { return std::vector{static_cast<std::byte>(value)}; };
  CHECK_THROWS_CONTAINS(value_of<bool>(one(2)), DecodeError, "a bool is 2");
  CHECK_THROWS_CONTAINS(value_of<std::optional<int>>(one(7)), DecodeError, "the mark of an optional is 7");
  CHECK_THROWS_CONTAINS((value_of<std::variant<int, bool>>(one(2))), DecodeError,
                        "the index of a variant is 2");
  CHECK_THROWS_CONTAINS(value_of<std::unique_ptr<int>>(one(255)), DecodeError,
                        "the mark of a pointer is 255");
  CHECK_THROWS_CONTAINS(value_of<std::error_code>(one(4)), DecodeError, "category");
  auto flagged = bytes_of(Flagged{1, true});
  flagged[4] = std::byte{3};
  CHECK_THROWS_CONTAINS(value_of<Flagged>(flagged), DecodeError, "a bool is 3");
  // The bits of a bitset beyond its size stay 0.
  CHECK(value_of<std::bitset<5>>(std::vector<std::byte>(sizeof(std::bitset<5>), std::byte{0xff})).count() ==
        5);
}

TEST_CASE("a huge count is refused before anything is allocated for it") {
  for (const auto count :
       {~std::uint64_t{0}, std::uint64_t{1} << 60U, std::uint64_t{1} << 32U, std::uint64_t{100}}) {
    std::vector<std::byte> bytes(8 + 16);
    std::memcpy(bytes.data(), &count, 8);
    CHECK_THROWS_AS(value_of<std::string>(bytes), DecodeError);
    CHECK_THROWS_AS(value_of<std::vector<int>>(bytes), DecodeError);
    CHECK_THROWS_AS(value_of<std::vector<std::string>>(bytes), DecodeError);
    CHECK_THROWS_AS(value_of<std::vector<Nothing>>(bytes), DecodeError);
    CHECK_THROWS_AS(value_of<std::vector<std::tuple<>>>(bytes), DecodeError);
    CHECK_THROWS_AS((value_of<std::map<int, int>>(bytes)), DecodeError);
    CHECK_THROWS_AS(value_of<std::forward_list<bool>>(bytes), DecodeError);
    CHECK_THROWS_AS(value_of<std::valarray<int>>(bytes), DecodeError);
    if (count > 200) CHECK_THROWS_AS(value_of<std::vector<bool>>(bytes), DecodeError);
  }
}

TEST_CASE("what elements take in memory does not follow a count that the message cannot hold") {
  struct Large {
    std::array<std::optional<std::string>, 512> many;  // 20 KiB in memory, 512 bytes in a message
  };
  std::vector<std::byte> bytes(8 + 512 * 1000);
  const std::uint64_t count = 1000;
  std::memcpy(bytes.data(), &count, 8);
  bytes[8 + 512 * 3] = std::byte{9};  // the fourth is damaged
  Decoder decoder{ContextId{}, bytes};
  std::vector<Large> none;
  reserve_for(none, 1000, decoder);
  CHECK(none.capacity() * sizeof(Large) <= bytes.size() + sizeof(Large));
  CHECK_THROWS_CONTAINS(decode<std::vector<Large>>(decoder), DecodeError, "the mark of an optional is 9");
}

TEST_CASE_TEMPLATE("a container crosses whole, whether it is copied at once or in pieces", T,
                   std::vector<std::uint8_t>, std::vector<double>, std::string, std::u16string,
                   std::deque<std::uint32_t>) {
  using Element = typename T::value_type;
  constexpr std::size_t one = sizeof(Element);
  constexpr std::size_t mib = std::size_t{1} << 20U;
  for (const std::size_t bytes : {copy_piece - one, copy_piece, copy_piece + one, 2 * copy_piece,
                                  2 * copy_piece + one, std::size_t{100'000}, mib - one, mib}) {
    CAPTURE(bytes);
    T sent;
    for (std::size_t i = 0; i < bytes / one; ++i)
      sent.insert(sent.end(), static_cast<Element>(i * 7 + i / 251));
    check_same(sent);
  }
}

TEST_CASE("elements that are bytes are written in one piece, at any alignment") {
  std::vector<double> values(1000);
  for (std::size_t i = 0; i != values.size(); ++i) values[i] = static_cast<double>(i);
  CHECK(bytes_of(values).size() == 8 + 8000);
  // Behind a string of any length, so at any address.
  for (std::size_t length = 0; length != 9; ++length) check_same(std::pair{std::string(length, 'x'), values});
  check_same(std::tuple{'c', std::vector<Pod>(300, Pod{1, 2}), std::deque<std::uint16_t>{1, 2, 3}});
  check_same(std::tuple{'c', std::vector<Opaque>(3, Opaque{4}), std::u32string{U"misaligned"}});
}

TEST_CASE("error codes of the four standard categories cross, others are refused where they are passed") {
  check_same_and_hardened(std::make_error_code(std::errc::timed_out));
  check_same(std::error_code{5, std::system_category()});
  check_same(std::make_error_condition(std::errc::timed_out));
  struct Category : std::error_category {
    [[nodiscard]] const char* name() const noexcept override { return "mine"; }
    [[nodiscard]] std::string message(int) const override { return "text"; }
  };
  static const Category category;
  CHECK_THROWS_CONTAINS(bytes_of(std::error_code{5, category}), UsageError, "category 'mine'");
}

TEST_CASE("a variant that lost its value is refused where it is passed") {
  struct Throws {
    Throws() = default;
    Throws(const Throws&) { throw 1; }
    Throws& operator=(const Throws&) = default;
    int a = 0;
  };
  std::variant<int, Throws> variant;
  try {
    const Throws source;
    variant.emplace<Throws>(source);
  } catch (int) {}
  REQUIRE(variant.valueless_by_exception());
  // A class with such a copy is nothing that the codec carries; its variant is only asked for its index.
  CHECK_THROWS_CONTAINS(([&] {
                          Bytes bytes;
                          Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
                          if (variant.valueless_by_exception()) throw_valueless_variant();
                        }()),
                        UsageError, "valueless_by_exception");
}

TEST_CASE("a standard exception that is returned is a value, with its text") {
  struct NotFound : std::runtime_error {
    explicit NotFound(const std::string& key) : std::runtime_error{"not found: " + key} {}
  };
  CHECK(std::string{there_and_back(std::runtime_error{"boom"}).what()} == "boom");
  CHECK(std::string{there_and_back(std::out_of_range{"far"}).what()} == "far");
  CHECK(std::string{there_and_back(NotFound{"key"}).what()} == "not found: key");
  CHECK(crosses<std::invalid_argument>);
}

TEST_CASE("kindred's own types say themselves how they cross") {
  CHECK(there_and_back(Handle{5}) == Handle{5});
  CHECK(there_and_back(std::map<int, Handle>{{1, {2}}}).at(1) == Handle{2});
  CHECK_FALSE(crosses<Forbidden>);
  CHECK_FALSE(crosses<std::vector<Forbidden>>);
}

TEST_CASE("what means nothing in another process does not cross, wherever it is seen") {
  struct HasPointer {
    int* pointer;
  };
  struct HasReference {
    int& reference;
  };
  struct HasDeep {
    std::vector<std::map<int, HasPointer>> deep;
  };
  CHECK(VerdictOn<int*>::refusal == Refusal::pointer);
  CHECK(VerdictOn<std::vector<const char*>>::refusal == Refusal::pointer);
  CHECK(VerdictOn<HasPointer>::refusal == Refusal::pointer);
  CHECK(VerdictOn<HasDeep>::refusal == Refusal::pointer);
  CHECK(VerdictOn<HasReference>::refusal == Refusal::reference_member);
  CHECK(VerdictOn<void (*)(int)>::refusal == Refusal::function_pointer);
  CHECK(VerdictOn<int Pod::*>::refusal == Refusal::member_pointer);
  CHECK(VerdictOn<std::reference_wrapper<int>>::refusal == Refusal::reference);
  CHECK(VerdictOn<std::tuple<int&>>::refusal == Refusal::reference);
  CHECK(VerdictOn<std::string_view>::refusal == Refusal::view);
  CHECK(VerdictOn<std::optional<std::span<int>>>::refusal == Refusal::view);
  CHECK(VerdictOn<std::vector<int>::iterator>::refusal == Refusal::iterator);
  CHECK(VerdictOn<std::list<int>::const_iterator>::refusal == Refusal::iterator);
  CHECK(VerdictOn<std::function<void()>>::refusal == Refusal::std_function);
  CHECK(VerdictOn<std::mutex>::refusal == Refusal::lock);
  CHECK(VerdictOn<std::unique_ptr<std::mutex>>::refusal == Refusal::lock);
  CHECK(VerdictOn<std::atomic<int>>::refusal == Refusal::atomic);
  CHECK(VerdictOn<std::thread>::refusal == Refusal::thread);
  CHECK(VerdictOn<std::thread::id>::refusal == Refusal::thread);
  CHECK(VerdictOn<std::exception_ptr>::refusal == Refusal::exception_pointer);
  CHECK(VerdictOn<std::unique_ptr<int[]>>::refusal == Refusal::unknown);
  CHECK(VerdictOn<std::any>::refusal == Refusal::unknown);
  int captured = 0;
  const auto lambda = [&captured] { return captured; };
  CHECK(VerdictOn<std::remove_cv_t<decltype(lambda)>>::refusal == Refusal::captures);
  CHECK(VerdictOn<Worker>::refusal == Refusal::worker);
}

// --- types with words of their own

namespace codec_test {

struct Plain {
  int a = 0;
  std::vector<std::string> b;
  Flagged c{};  // no word of its own: member by member
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a, b, c);
  }
  friend bool operator==(const Plain&, const Plain&) = default;
};
struct Wins {
  int sent = 0;
  int kept = 0;  // trivially copyable, but its word says otherwise
  template <class Archive>
  void serialize(Archive& archive) {
    archive(sent);
  }
};
class Private {
 public:
  explicit Private(int value) : value_{value} {}
  [[nodiscard]] int value() const { return value_; }

 private:
  friend class cereal::access;
  Private() = default;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(value_));
  }
  int value_ = 0;
};
struct Versioned {
  int a = 0;
  std::uint32_t seen = 0;
  template <class Archive>
  void serialize(Archive& archive, const std::uint32_t version) {
    seen = version;
    archive(a);
  }
};
struct Split {
  std::vector<int> values;
  template <class Archive>
  void save(Archive& archive) const {
    archive(cereal::make_size_tag(values.size()));
    for (const int value : values) archive(value);
  }
  template <class Archive>
  void load(Archive& archive) {
    cereal::size_type count = 0;
    archive(cereal::make_size_tag(count));
    values.resize(count);
    for (int& value : values) archive(value);
  }
};
struct Binary {
  char data[6]{};
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::binary_data(data, sizeof data));
  }
};
struct Minimal {
  int a = 0;
  template <class Archive>
  std::string save_minimal(const Archive&) const {
    return std::to_string(a);
  }
  template <class Archive>
  void load_minimal(const Archive&, const std::string& text) {
    a = std::stoi(text);
  }
};
struct Free {
  int a = 0;
  std::map<std::string, double> b;
};
template <class Archive>
void serialize(Archive& archive, Free& value) {
  archive & value.a;
  archive & value.b;
}
struct FreeSplit {
  int a = 0;
};
template <class Archive>
void save(Archive& archive, const FreeSplit& value) {
  archive << value.a;
}
template <class Archive>
void load(Archive& archive, FreeSplit& value) {
  archive >> value.a;
}
struct Chosen {
  int a = 0;
  template <class Archive>
  void serialize(Archive&) {
    FAIL("not this one");
  }
  template <class Archive>
  void save(Archive& archive) const {
    archive(a);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(a);
  }
};
struct Graph {
  int value = 0;
  std::shared_ptr<Graph> next;
  std::weak_ptr<Graph> back;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value, next, back);
  }
};
struct Graphs {
  std::vector<std::shared_ptr<Graph>> all;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(all);
  }
};
struct SharedPlain {
  std::vector<std::shared_ptr<Plain>> all;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(all);
  }
};
struct Figure {
  virtual ~Figure() = default;
  int id = 0;
  [[nodiscard]] virtual int corners() const = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(id);
  }
};
struct Square : Figure {
  int side = 0;
  [[nodiscard]] int corners() const override { return 4; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::base_class<Figure>(this), side);
  }
};
struct Other : Figure {
  std::string text;
  [[nodiscard]] int corners() const override { return 9; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::base_class<Figure>(this), text);
  }
};
struct Root {
  int root = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(root);
  }
};
struct Left : virtual Root {
  int left = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::virtual_base_class<Root>(this), left);
  }
};
struct Right : virtual Root {
  int right = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::virtual_base_class<Root>(this), right);
  }
};
struct Diamond : Left, Right {
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::base_class<Left>(this), cereal::base_class<Right>(this));
  }
};
struct Made {
  explicit Made(int value) : a{value} {}
  int a;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a);
  }
  template <class Archive>
  static void load_and_construct(Archive& archive, cereal::construct<Made>& construct) {
    int value = 0;
    archive(value);
    construct(value);
  }
};
struct Deferred {
  std::shared_ptr<int> pointer;
  std::vector<int> values;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::defer(pointer), values);
    archive.serializeDeferments();
  }
};
/// A list of its own kind: nothing bounds it but the codec.
struct Endless {
  std::unique_ptr<Endless> next;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(next);
  }
};

}  // namespace codec_test

CEREAL_CLASS_VERSION(codec_test::Versioned, 7)
CEREAL_SPECIALIZE_FOR_ALL_ARCHIVES(codec_test::Chosen, cereal::specialization::member_load_save)
CEREAL_REGISTER_TYPE(codec_test::Square)
CEREAL_REGISTER_TYPE(codec_test::Other)

TEST_CASE(
    "a type's own words are spoken: serialize, save and load, save_minimal, as members and free functions") {
  check_same_and_hardened(Plain{3, {"a", "b"}, {4, true}});
  check_same_and_hardened(std::map<int, std::vector<Plain>>{{1, {{3, {"a"}, {}}}}});
  const auto wins = there_and_back(Wins{1, 2});
  CHECK((wins.sent == 1 && wins.kept == 0));
  CHECK(there_and_back(Split{{1, 2, 3}}).values == std::vector{1, 2, 3});
  check_hardened(Split{{1, 2, 3}});
  CHECK(there_and_back(Minimal{42}).a == 42);
  CHECK(there_and_back(Free{3, {{"a", 1.5}}}).b.at("a") == 1.5);
  CHECK(there_and_back(FreeSplit{4}).a == 4);
  CHECK(there_and_back(Chosen{6}).a == 6);
}

TEST_CASE("private words, versions, base classes, binary and deferred data work as cereal documents them") {
  const auto bytes = bytes_of(Private{9});
  Decoder decoder{ContextId{}, bytes};
  CHECK(decode<Private>(decoder).value() == 9);

  const auto versioned = there_and_back(Versioned{3, 0});
  CHECK((versioned.a == 3 && versioned.seen == 7));
  Binary binary;
  std::strcpy(binary.data, "bytes");
  CHECK(std::string{there_and_back(binary).data} == "bytes");
  Diamond diamond;
  diamond.root = 1;
  diamond.left = 2;
  diamond.right = 3;
  const auto back = there_and_back(diamond);
  CHECK((back.root == 1 && back.left == 2 && back.right == 3));
  CHECK(bytes_of(diamond).size() == 3 * sizeof(int));  // the virtual base once
  Deferred deferred{std::make_shared<int>(8), {1}};
  CHECK(*there_and_back(deferred).pointer == 8);
}

TEST_CASE("shared pointers in a type with its own word stay shared, cycles too") {
  auto first = std::make_shared<Graph>();
  first->value = 1;
  first->next = std::make_shared<Graph>();
  first->next->value = 2;
  first->next->back = first;
  const auto back = there_and_back(Graphs{{first, first}});
  CHECK(back.all[0] == back.all[1]);
  CHECK(back.all[0]->next->back.lock() == back.all[0]);
  // (Damaged graphs are not tried: bytes can make a cycle of shared_ptr, as a program can, and that leaks.)
  const auto plain = std::make_shared<Plain>();
  check_hardened(SharedPlain{{plain, nullptr, plain}});
}

TEST_CASE("pointers to polymorphic classes that are registered with cereal come as what they are") {
  std::vector<std::unique_ptr<Figure>> shapes;
  shapes.push_back(std::make_unique<Square>());
  shapes.push_back(nullptr);
  shapes.push_back(std::make_unique<Other>());
  shapes[2]->id = 3;
  const auto back = there_and_back(shapes);
  CHECK(back[0]->corners() == 4);
  CHECK(back[1] == nullptr);
  CHECK((back[2]->corners() == 9 && back[2]->id == 3));
  check_hardened(shapes);
  const std::shared_ptr<Figure> shared = std::make_shared<Square>();
  CHECK(there_and_back(shared)->corners() == 4);
  check_hardened(shared);
  CHECK(there_and_back(std::make_unique<Made>(4))->a == 4);
  CHECK(there_and_back(std::make_shared<Made>(5))->a == 5);
}

TEST_CASE("a message cannot pass a shared object off as one of another type") {
  struct Two {
    std::shared_ptr<Plain> first;
    std::shared_ptr<Graph> second;
    void serialize(CerealOutput& archive) { archive(first, second); }
    void serialize(CerealInput& archive) { archive(first, second); }
  };
  Two two{std::make_shared<Plain>(), std::make_shared<Graph>()};
  auto bytes = bytes_of(two);
  // The second one's number, made to name the first object: 0x80000002 becomes 1.
  bool found = false;
  for (std::size_t i = 4; i + 4 <= bytes.size(); ++i) {
    std::uint32_t number = 0;
    std::memcpy(&number, bytes.data() + i, 4);
    if (number != 0x80000002U) continue;
    number = 1;
    std::memcpy(bytes.data() + i, &number, 4);
    found = true;
    break;
  }
  REQUIRE(found);
  CHECK_THROWS_CONTAINS(value_of<Two>(bytes), DecodeError, "another type");
}

TEST_CASE("the depth of types with their own words is bounded too") {
  const std::vector<std::byte> bytes(100'000, std::byte{1});
  Decoder decoder{ContextId{}, bytes};
  CHECK_THROWS_CONTAINS(decode<Endless>(decoder), DecodeError, "500 levels deep");
  CHECK(decoder.depth() == 0);
}

// --- tasks

namespace codec_test {

alignas(16) std::byte no_worker[64];  // only its address is looked at
Worker& a_worker() { return reinterpret_cast<Worker&>(no_worker); }

template <class F, class... A>
auto run(F function, A&&... arguments) {
  using Types = TaskTypes<F, A...>;
  static_assert(Types::check());
  Bytes bytes;
  Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
  Types::encode_arguments(encoder, std::forward<A>(arguments)...);
  const auto written = encoder.written();
  Decoder decoder{ContextId{}, written};
  Worker& worker = a_worker();
  if constexpr (std::is_void_v<typename Types::result_t>) {
    Types::invoke(function, worker, decoder);
    CHECK(decoder.left() == 0);
  } else {
    auto result = Types::invoke(function, worker, decoder);
    CHECK(decoder.left() == 0);
    return result;
  }
}

double area(double radius) { return radius * 2; }
std::size_t view_length(std::string_view text) { return text.size(); }
std::size_t c_length(const char* text) { return std::strlen(text); }
std::string joined(const std::string& a, std::string b) { return a + b; }
int sum(std::span<const int> values) {
  int total = 0;
  for (const int value : values) total += value;
  return total;
}
int with_worker(Worker& worker, int x) { return &worker == &a_worker() ? x : -1; }
int nothing_called = 0;
void nothing() { ++nothing_called; }
int take(std::unique_ptr<int> pointer) { return *pointer; }
int corners(const Figure& shape) { return shape.corners(); }
int handle_by_reference(Handle& handle) { return handle.id; }
/// Where the message is read from, and what a view of it saw.
struct Looked {
  bool in_message;
  double total;
};
template <class Element>
Looked look(std::span<const Element> elements, std::span<const std::byte> message) {
  const auto* const at = reinterpret_cast<const std::byte*>(elements.data());
  Looked looked{at >= message.data() && at < message.data() + message.size(), 0};
  for (const Element element : elements) looked.total += static_cast<double>(element);
  return looked;
}
/// Runs a task that takes a view, whose message begins `offset` bytes behind an aligned address.
template <class View, class... A>
Looked look_at(std::size_t offset, A&&... arguments) {
  std::vector<std::byte> room;
  const auto task = [&room](View view) {
    return look(std::span<const typename View::value_type>{view}, std::span<const std::byte>{room});
  };
  using Task = std::function<Looked(View)>;
  using Types = TaskTypes<Looked (*)(View), A...>;
  Bytes bytes;
  Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
  Types::encode_arguments(encoder, std::forward<A>(arguments)...);
  const auto written = encoder.written();
  room.resize(offset + written.size());
  std::memcpy(room.data() + offset, written.data(), written.size());
  Decoder decoder{ContextId{}, std::span<const std::byte>{room}.subspan(offset)};
  typename Types::arguments_t held{decoder};
  CHECK(decoder.left() == 0);
  return Task{task}(hand_over<View>(held.value));
}
struct Adds {
  int amount;
  int operator()(int x) const { return x + amount; }
};
struct Overloaded {
  int operator()(int x) const { return x; }
  std::string operator()(const std::string& text) const { return text + "!"; }
};
struct WithDefault {
  int operator()(int a, int b = 5) const { return a * 10 + b; }
};
struct Object {
  int number;
  [[nodiscard]] int twice() const { return 2 * number; }
};

}  // namespace codec_test

TEST_CASE("arguments become the parameters' types in the parent, as in a call") {
  CHECK(run(area, 2) == 4);
  CHECK(run(&area, 2.5F) == 5);
  static_assert(std::is_same_v<TaskTypes<double (*)(double), int>::sent_tuple, std::tuple<double>>);
  CHECK(run(joined, "a", std::string{"b"}) == "ab");
  CHECK(run([](unsigned u) { return u; }, 3) == 3U);
  CHECK(run([](std::optional<int> value) { return value.value_or(-1); }, std::nullopt) == -1);
  CHECK(run([](const std::filesystem::path& path) { return path.string(); }, "/tmp") == "/tmp");
  CHECK(run(take, std::make_unique<int>(4)) == 4);
  const auto pointer = std::make_unique<int>(5);
  CHECK(run(take, pointer) == 5);  // it is copied to the worker anyway
  Square square;
  CHECK(run(corners, square) == 4);  // not cut down to its base
  run(nothing);
  CHECK(nothing_called == 1);
}

TEST_CASE("text and spans are sent as what owns them, and the parameter refers to that") {
  const std::string text = "hello";
  char buffer[] = "xyz";
  CHECK(run(view_length, "abc") == 3);
  CHECK(run(view_length, text) == 5);
  CHECK(run(view_length, std::string_view{"ab"}) == 2);
  CHECK(run(view_length, std::string_view{}) == 0);
  CHECK(run(c_length, "abcd") == 4);
  CHECK(run(c_length, buffer) == 3);
  CHECK(run([](const std::string& s) { return s.size(); }, "abc") == 3);
  std::vector<int> values{1, 2, 3};
  const int array[] = {4, 5};
  CHECK(run(sum, values) == 6);
  CHECK(run(sum, array) == 9);
  CHECK(run(sum, std::span<int>{values}) == 6);
  CHECK(run(sum, std::array<int, 2>{3, 4}) == 7);
  const char* null = nullptr;
  CHECK_THROWS_CONTAINS(run(c_length, null), UsageError, "null");
}

TEST_CASE("a view looks at the message itself, and at a copy where its elements are not aligned there") {
  const std::vector<double> numbers{1, 2, 3};
  for (std::size_t offset = 0; offset != 17; ++offset) {
    const auto doubles = look_at<std::span<const double>>(offset, numbers);
    CHECK(doubles.total == 6);
    CHECK(doubles.in_message == (offset % alignof(double) == 0));
    const auto text = look_at<std::string_view>(offset, std::string{"\1\2"});
    CHECK(text.total == 3);
    CHECK(text.in_message);
    const auto bytes = look_at<std::span<const unsigned char>>(offset, std::vector<unsigned char>{5, 6});
    CHECK(bytes.total == 11);
    CHECK(bytes.in_message);
    const auto wide = look_at<std::u32string_view>(offset, std::u32string{7, 8});
    CHECK(wide.total == 15);
    CHECK(wide.in_message == (offset % alignof(char32_t) == 0));
  }
  // What ends early is refused, and a count that cannot be true.
  for (const std::uint64_t count : {std::uint64_t{4}, ~std::uint64_t{0}}) {
    std::vector<std::byte> message(sizeof count + 3 * sizeof(double));
    std::memcpy(message.data(), &count, sizeof count);
    Decoder decoder{ContextId{}, message};
    CHECK_THROWS_AS((Borrowed<std::vector<double>>{decoder}), DecodeError);
  }
}

TEST_CASE("the worker supplies itself as the first parameter, and it is not sent") {
  CHECK(run(with_worker, 3) == 3);
  CHECK(run([](const Worker& worker) { return &worker == &a_worker(); }));
  CHECK(run([](auto& worker, int x) { return with_worker(worker, x); }, 1) == 1);
  CHECK(TaskTypes<int (*)(Worker&, int), int>::takes_worker);
  CHECK_FALSE(TaskTypes<int (*)(int), int>::takes_worker);
}

TEST_CASE("functions, lambdas, function objects and members can be tasks") {
  CHECK(run(Adds{3}, 4) == 7);
  CHECK(run(Overloaded{}, 4) == 4);
  CHECK(run(Overloaded{}, "a") == "a!");
  CHECK(run(WithDefault{}, 4) == 45);
  CHECK(run(WithDefault{}, 4, 6) == 46);
  CHECK(run(FunctionConstant<&Object::twice>{}, Object{4}) == 8);
  CHECK(run(FunctionConstant<&area>{}, 2) == 4);
  CHECK(run(FunctionConstant<&c_length>{}, "abc") == 3);
  CHECK(run(FunctionConstant<&with_worker>{}, 5) == 5);
  static_assert(std::is_same_v<TaskTypes<FunctionConstant<&area>, int>::sent_tuple, std::tuple<double>>);
  CHECK(run([](auto a, const auto& b) { return a + b; }, 1, 2.5) == 3.5);
  CHECK(run(handle_by_reference, Handle{3}) == 3);  // a handle is the same object in the worker
  CHECK(function_kind<int (*)(int)>() == FunctionKind::pointer);
  CHECK(function_kind<Overloaded>() == FunctionKind::stateless);
  CHECK(function_kind<Adds>() == FunctionKind::object);
  Bytes bytes;
  Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
  encode_function(encoder, Overloaded{});
  CHECK(encoder.size() == 0);
  encode_function(encoder, Adds{9});
  Decoder decoder{ContextId{}, encoder.written()};
  CHECK(decode_function<Adds>(decoder)(1) == 10);
}

TEST_CASE("arguments are read in their order, and each is moved into its parameter") {
  const auto order =
      run([](std::string a, std::vector<int> b, std::string c) { return a + std::to_string(b.size()) + c; },
          "a", std::vector<int>(3), "c");
  CHECK(order == "a3c");
  static int copies = 0;
  struct Counts {
    std::string text;
    Counts() = default;
    explicit Counts(std::string t) : text{std::move(t)} {}
    Counts(const Counts& other) : text{other.text} { ++copies; }
    Counts(Counts&&) = default;
    Counts& operator=(Counts&&) = default;
    void serialize(CerealOutput& archive) { archive(text); }
    void serialize(CerealInput& archive) { archive(text); }
  };
  const Counts counts{"x"};
  CHECK(run([](Counts value) { return value.text; }, counts) == "x");
  CHECK(copies == 0);
}

TEST_CASE("a table whose keys collide is refused in a bounded time, alone or in many tables of one message") {
  using Table = std::unordered_map<std::uint64_t, std::uint64_t>;
  const auto colliding = [](std::size_t count) {
    Table like_it;
    like_it.reserve(count);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> pairs;  // of the same bytes as the table
    for (std::uint64_t i = 0; i < count; ++i) pairs.emplace_back(i * like_it.bucket_count(), i);
    return pairs;
  };
  CHECK_THROWS_CONTAINS((void)value_of<Table>(bytes_of(colliding(60'000))), DecodeError, "keys collide");
  CHECK(value_of<Table>(bytes_of(colliding(1'500))).size() == 1'500);
  const std::vector<std::vector<std::pair<std::uint64_t, std::uint64_t>>> many(200, colliding(1'000));
  CHECK_THROWS_CONTAINS((void)value_of<std::vector<Table>>(bytes_of(many)), DecodeError, "keys collide");
  const std::vector<std::vector<std::pair<std::uint64_t, std::uint64_t>>> few(5, colliding(1'000));
  CHECK(value_of<std::vector<Table>>(bytes_of(few)).size() == 5);
}

TEST_CASE("a large table, and equal keys without end, cost what their number allows") {
  std::unordered_set<std::string> words;
  std::unordered_multimap<int, int> equal;
  for (int i = 0; i < 200'000; ++i) {
    words.insert(std::to_string(i));
    equal.emplace(i % 3, i);
  }
  CHECK((value_of<std::unordered_set<std::string>>(bytes_of(words)) == words));
  CHECK(value_of<std::unordered_multimap<int, int>>(bytes_of(equal)).size() == 200'000);
}
