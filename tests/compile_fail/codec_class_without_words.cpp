// expect: give it a cereal serialize
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
class Account {
 public:
  Account() = default;
  explicit Account(std::string name);
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name_);
  }

 private:
  std::string name_;
};
int balance(const Account& account);
static_assert(kindred::internal::TaskTypes<decltype(&balance), Account&>::check());
#else
class Account {
 public:
  explicit Account(std::string name);

 private:
  std::string name_;
};
int balance(const Account& account);
static_assert(kindred::internal::TaskTypes<decltype(&balance), Account&>::check());
#endif
