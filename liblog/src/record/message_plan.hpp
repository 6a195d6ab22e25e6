#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
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

/// The decoded arguments of one record after the other. The few that most records have need no allocation.
class Arguments {
 public:
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
  [[nodiscard]] std::size_t bytes() const noexcept { return texts_.size() + pieces_.size() * sizeof(Piece); }
  /// Decodes a record's arguments (`bytes` is private memory, to which `arguments` then points), and adds its
  /// key-values to `fields`. Every length is checked here, and nowhere behind. False where the bytes are not
  /// what the types say.
  [[nodiscard]] bool decode(std::span<const std::byte> bytes, Arguments& arguments,
                            std::vector<Field>& fields) const;
  /// Appends the message as it is.
  void append(TextBuffer& out, const Arguments& arguments) const;
  /// Appends what `append_escaped` would make of the message.
  void append_escaped(TextBuffer& out, const Arguments& arguments) const;
  /// Appends what `append_json_escaped` would make of the message, and returns what it would.
  bool append_json(TextBuffer& out, const Arguments& arguments) const;

 private:
  /// What stands behind a text of the format.
  enum class Then : std::uint8_t { end, value, formatted };
  /// Some text, then an argument.
  struct Piece {
    Then then = Then::end;
    std::uint32_t argument = 0;
    /// The text in each form: where it begins in `texts_`, and its length.
    std::array<std::uint32_t, 3> text{};
    std::array<std::uint32_t, 3> text_bytes{};
    std::string spec{};  ///< `{:>8}`, for fmt
  };

  bool take_apart(std::string_view format);
  bool take_argument(std::string_view inside, std::size_t& next_argument, Piece& piece) const;
  void add(Piece&& piece, std::string_view text);
  template <TextForm form>
  bool put(TextBuffer& out, const Arguments& arguments, bool& all_utf8) const;
  template <TextForm form>
  [[nodiscard]] std::size_t room_for(const Arguments& arguments) const noexcept;
  [[gnu::noinline]] bool decode_fields_too(std::span<const std::byte> bytes, Arguments& arguments,
                                           std::vector<Field>& fields) const;

  std::string types_;
  std::size_t plain_arguments_ = 0;  ///< those of the format; key-values may stand anywhere among them
  bool has_fields_ = false;
  bool is_message_ = false;  ///< the first argument is the message
  std::vector<Piece> pieces_;
  std::string texts_;                  ///< with some bytes behind the last
  std::array<std::size_t, 3> room_{};  ///< for all texts and numbers, in each form
  bool texts_are_utf8_ = true;
  bool texts_begin_cleanly_ = true;  ///< none begins within a character of UTF-8
};

}  // namespace kindred::internal
