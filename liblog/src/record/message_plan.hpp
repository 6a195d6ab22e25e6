#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"
#include "record/clean_copy.hpp"
#include "record/fields.hpp"

namespace kindred::internal {

/// One argument of a record's message, decoded.
struct Argument {
  union {
    std::uint64_t bits = 0;  ///< a number, a truth value, a character
    const char* text;        ///< in the record's bytes
  };
  std::uint32_t text_bytes = 0;
  ArgType type = ArgType::none;
};

/// The checked arguments of one record after the other: as they lie in its bytes, where the message takes
/// them in that order; else decoded. The few that most records have need no allocation.
class Arguments {
 public:
  /// They lie one after the other at `bytes`, and were checked.
  void refer_to(const std::byte* bytes, std::size_t text_bytes) noexcept {
    bytes_ = bytes;
    text_bytes_ = text_bytes;
  }
  [[nodiscard]] const std::byte* bytes() const noexcept { return bytes_; }
  /// Makes room for `count` arguments, and returns the first.
  Argument* make_room(std::size_t count) {
    if (count <= few_.size()) [[likely]]
      return begin_ = few_.data();
    many_.resize(count);
    return begin_ = many_.data();
  }
  [[nodiscard]] const Argument& operator[](std::size_t index) const noexcept { return begin_[index]; }
  /// How long the texts are, all together.
  [[nodiscard]] std::size_t text_bytes() const noexcept { return text_bytes_; }
  void set_text_bytes(std::size_t bytes) noexcept { text_bytes_ = bytes; }

 private:
  std::array<Argument, 16> few_;
  std::vector<Argument> many_;
  Argument* begin_ = few_.data();
  const std::byte* bytes_ = nullptr;
  std::size_t text_bytes_ = 0;
};

/// How a call's message is put together: its format and the types of its arguments, taken apart once. The
/// texts between the arguments are kept in each form that a line can need, so they are escaped once and not
/// with each record. Immutable. Threads: any thread.
class MessagePlan {
 public:
  /// `types`: an `ArgType` each, with `arg_is_field`. A format that makes no sense is its own message.
  MessagePlan(std::string_view format, std::string_view types);

  [[nodiscard]] bool has_fields() const noexcept { return has_fields_; }
  /// How much memory it takes, beside itself.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return texts_.size() + pieces_.size() * sizeof(Piece) + 2 * types_.size() +
           text_gaps_.size() * sizeof(std::uint32_t);
  }
  /// Checks a record's arguments (`bytes` is private memory, to which `arguments` then points), and adds its
  /// key-values to `fields`. Every length is checked here, and nowhere behind. False where the bytes are not
  /// what the types say.
  [[nodiscard]] bool decode(std::span<const std::byte> bytes, Arguments& arguments,
                            std::vector<Field>& fields) const {
    if (!in_order_) [[unlikely]]
      return decode_each(bytes, arguments, fields);
    if (bytes.size() < fixed_bytes_) [[unlikely]]
      return false;
    // Invariant: what is left behind a text holds all of the fixed bytes that are still to come.
    std::size_t left = bytes.size() - fixed_bytes_;
    std::size_t text_bytes = 0;
    const std::byte* at = bytes.data();
    for (const std::uint32_t gap : text_gaps_) {
      std::uint32_t text = 0;
      at += gap;
      std::memcpy(&text, at - sizeof text, sizeof text);
      if (text > left) [[unlikely]]
        return false;
      left -= text;
      text_bytes += text;
      at += text;
    }
    arguments.refer_to(bytes.data(), text_bytes);
    return true;
  }
  /// Appends the message as it is.
  void append(TextBuffer& out, const Arguments& arguments) const;
  /// Appends what `append_escaped` would make of the message.
  void append_escaped(TextBuffer& out, const Arguments& arguments) const;
  /// Appends what `append_json_escaped` would make of the message, and returns what it would.
  bool append_json(TextBuffer& out, const Arguments& arguments) const;

 private:
  /// What stands behind a text of the format.
  enum class Then : std::uint8_t {
    end,
    more,       ///< of the same text
    formatted,  ///< an argument, as `spec` says
    text,
    character,
    int32,
    uint32,
    int64,
    uint64,
    real64,
    rare  ///< an argument of another type
  };
  /// Some text, then an argument.
  struct Piece {
    Then then = Then::end;
    ArgType type = ArgType::none;
    std::uint32_t argument = 0;
    /// The text in each form: where it begins in `texts_`, and its length.
    std::array<std::uint32_t, 3> text{};
    std::array<std::uint32_t, 3> text_bytes{};
    std::string spec{};  ///< `{:>8}`, for fmt
  };
  // Where a message's values come from.
  class InOrder;
  class ByIndex;

  bool take_apart(std::string_view format);
  bool take_argument(std::string_view inside, std::size_t& next_argument, Piece& piece) const;
  void set_type(Piece& piece) const;
  void add(Piece&& piece, std::string_view text);
  void look_at_order();
  template <TextForm form>
  void put(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const;
  template <TextForm form, class Values>
  void put_from(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const;
  template <TextForm form>
  [[gnu::noinline]] void put_by_index(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const;
  template <TextForm form>
  [[gnu::noinline]] void put_whole(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const;
  [[gnu::noinline]] bool decode_each(std::span<const std::byte> bytes, Arguments& arguments,
                                     std::vector<Field>& fields) const;

  std::string types_;
  std::string plain_types_;  ///< those of the format's arguments; key-values may stand anywhere among them
  bool has_fields_ = false;
  bool is_message_ = false;  ///< the first argument is the message
  /// There are no key-values, and the message takes its arguments one after the other.
  bool in_order_ = false;
  bool is_usual_ = false;  ///< so it is, and its pieces can be escaped one by one
  bool texts_are_utf8_ = true;
  bool texts_begin_cleanly_ = true;         ///< none begins within a character of UTF-8
  std::uint32_t fixed_bytes_ = 0;           ///< with `in_order_`: of all arguments but the texts themselves
  std::vector<std::uint32_t> text_gaps_{};  ///< with `in_order_`: of these, up to each text
  std::vector<Piece> pieces_;
  std::string texts_;                  ///< with some bytes behind the last
  std::array<std::size_t, 3> room_{};  ///< how many bytes all texts and numbers take, for each output form
};

}  // namespace kindred::internal
