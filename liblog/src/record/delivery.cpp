#include "record/delivery.hpp"

#include "kindred/internal/escape.hpp"

namespace kindred::internal {

const LogRecord& Delivery::whole() {
  if (facts_ == nullptr) return record_;
  scratch_->clear();
  site_->plan().append(*scratch_, *arguments_);
  facts_->message.assign(scratch_->view());
  facts_ = nullptr;
  return record_;
}

void Delivery::append_whole_message(TextBuffer& out) const { append_escaped(out, record_.message); }

bool Delivery::append_json_message(TextBuffer& out) const {
  return facts_ == nullptr ? append_json_escaped(out, record_.message)
                           : site_->plan().append_json(out, *arguments_);
}

}  // namespace kindred::internal
