// Types of one's own as arguments, results and errors. A plain aggregate crosses as it is: there is nothing
// to write. A class with private members says what it is made of, in cereal's words. An exception crosses as
// itself once it is registered.
//
// expect: Ada (2 orders): 61.50 in all
// expect: pens are 35 now
// expect: refused: order of paper over 3 pieces, asked for 500
#include <cereal/types/map.hpp>
#include <cereal/types/string.hpp>

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <kindred/kindred.hpp>

// Aggregates, containers and standard types in each other, as deep as one likes.
struct Order {
  std::string article;
  int pieces = 1;
  std::optional<double> discount = {};
};
struct Customer {
  std::string name;
  std::vector<Order> orders;
};

// A class that keeps its members to itself. Its own word counts, also where it would do without.
class PriceList {
 public:
  void set(const std::string& article, double price) { prices_[article] = price; }
  [[nodiscard]] double of(const std::string& article) const { return prices_.at(article); }
  void serialize(auto& archive) { archive(prices_); }

 private:
  std::map<std::string, double> prices_;
};

struct TooMany : std::runtime_error {
  TooMany() : std::runtime_error{""} {}
  explicit TooMany(const Order& order, int limit)
      : std::runtime_error{"order of " + order.article + " over " + std::to_string(limit) + " pieces"},
        pieces{order.pieces} {}
  int pieces = 0;
  void serialize(auto& archive) { archive(pieces); }
};
inline const bool too_many_registered = kindred::register_exception<TooMany>();

double bill(const Customer& customer, const PriceList& prices) {
  double sum = 0;
  for (const Order& order : customer.orders) {
    if (order.pieces > 3) throw TooMany{order, 3};
    sum += order.pieces * prices.of(order.article) * (1 - order.discount.value_or(0));
  }
  return sum;
}
PriceList reduced(PriceList prices, const std::string& article, double price) {
  prices.set(article, price);
  return prices;
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stdout_color());

  PriceList prices;
  prices.set("paper", 12.5);
  prices.set("pens", 40);
  const Customer ada{"Ada", {{.article = "paper", .pieces = 2}, {.article = "pens", .discount = 0.0875}}};
  pool.logger().info("{} ({} orders): {:.2f} in all", ada.name, ada.orders.size(),
                     pool.submit(bill, ada, prices).get());
  pool.logger().info("pens are {} now", pool.submit(reduced, prices, "pens", 35.0).get().of("pens"));

  try {
    pool.submit(bill, Customer{"Bob", {{.article = "paper", .pieces = 500}}}, prices).get();
  } catch (
      const TooMany& error) {  // as itself, and a kindred::TaskError besides, which knows task and worker
    pool.logger().error("refused: {}, asked for {}", error.what(), error.pieces);
  }
}
