#pragma once

#include <cstdint>

#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"
#include "record/message_plan.hpp"
#include "record/site.hpp"

namespace kindred::internal {

/// A record on its way to the sinks. What a line needs of it is there: its facts, and its message as a plan
/// and decoded arguments, which are written straight into the line. A whole `LogRecord`, with a string for
/// the message, is made only where a sink asks for one. One thread at a time; as long as the sinks are
/// called.
class Delivery {
 public:
  /// A record that is whole already.
  explicit Delivery(const LogRecord& record) noexcept : record_{record} {}
  /// A record from a lane. `facts` is all of it but the message, which `whole` puts there. `facts_id` names
  /// what `facts` holds beside time, sequence, lateness, fields and what its site says: the same number means
  /// the same facts.
  Delivery(LogRecord& facts, std::uint64_t facts_id, const Site& site, const Arguments& arguments,
           TextBuffer& scratch) noexcept
      : record_{facts},
        facts_{&facts},
        facts_id_{facts_id},
        site_{&site},
        arguments_{&arguments},
        scratch_{&scratch} {}
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  /// All but the message.
  [[nodiscard]] const LogRecord& facts() const noexcept { return record_; }
  /// 0: nothing that would be worth to be remembered.
  [[nodiscard]] std::uint64_t facts_id() const noexcept { return facts_id_; }
  /// Null: the record was made here.
  [[nodiscard]] const Site* site() const noexcept { return site_; }
  /// Was its message made? (So is that of a record that was made here.)
  [[nodiscard]] bool is_whole() const noexcept { return facts_ == nullptr; }
  /// The whole record; the first call makes its message.
  const LogRecord& whole();

  /// Appends the message as `append_escaped` shows it.
  void append_message(TextBuffer& out) const {
    if (facts_ != nullptr) [[likely]]
      site_->plan().append_escaped(out, *arguments_);
    else
      append_whole_message(out);
  }
  /// Appends the message, escaped for JSON. Returns false where it has bytes that are not UTF-8.
  bool append_json_message(TextBuffer& out) const;

  /// Tells records apart that reach the sinks: the same number, not 0, is the same record.
  std::uint64_t number = 0;

 private:
  void append_whole_message(TextBuffer& out) const;

  const LogRecord& record_;
  LogRecord* facts_ = nullptr;  ///< of a record whose message is not made yet
  std::uint64_t facts_id_ = 0;
  const Site* site_ = nullptr;
  const Arguments* arguments_ = nullptr;
  TextBuffer* scratch_ = nullptr;
};

}  // namespace kindred::internal
