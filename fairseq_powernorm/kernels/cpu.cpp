// The operators of kernels/operators.py for CPU tensors: one pass over the activations each, with everything that is
// to be computed from them.
//
// Rows of padding are never read: they come out as beta, get a gradient of 0 and enter no sum. Sums are taken in the
// arithmetic's type over at most 128 rows, then in double, and the threads' sums are added in the threads' order:
// a result depends on the number of threads and on nothing else. Half precision is computed as float.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

// One binary for every processor: the compiler makes each function once for each instruction set, the loader chooses.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define FOR_EVERY_PROCESSOR __attribute__((noinline))
#endif
#define INLINE __attribute__((always_inline)) inline

namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

constexpr int64_t kRowsPerSum = 128;
constexpr int64_t kElementsPerTask = 32768;

// What a pass needs beside the rows: a value per channel (C,) each, and the scaling in front of it.
template <typename W>
struct Constants {
  int64_t channels = 0;
  int64_t groups = 0;         // 0: s = x; else s is x with every group of channels at quadratic mean 1
  W eps = 0;                  // of the scaling
  const W* mean = nullptr;    // mu; nullptr: 0
  const W* scale = nullptr;   // y = scale (s - mu) + shift; ds = scale dY - product (s - mu) - shift
  const W* shift = nullptr;   // of ds: nullptr without mu
  const W* product = nullptr;
};

// The scaling's factor of every group, 1 / sqrt(mean of x^2 + eps).
template <typename W>
INLINE void find_factors(const W* x, W* factors, const Constants<W>& constants) {
  const int64_t width = constants.channels / constants.groups;
  for (int64_t group = 0; group < constants.groups; ++group, x += width) {
    W squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t k = 0; k < width; ++k) squares += x[k] * x[k];
    factors[group] = squares;
  }
#pragma omp simd
  for (int64_t group = 0; group < constants.groups; ++group) {  // all at once: one by one the roots take longest
    factors[group] = W(1) / std::sqrt(factors[group] / W(width) + constants.eps);
  }
}

// A row: y = scale (s - mu) + shift where the pass stores; (s - mu)^2 where it sums, and s - mu if that is all it does.
template <typename Pass, bool scaled, bool centred, typename W>
INLINE void forward(const W* x, W* y, W* squares, W* sums, W* scratch, const Constants<W>& constants) {
  const W *mean = constants.mean, *scale = constants.scale, *shift = constants.shift;
  const int64_t groups = scaled ? constants.groups : 1, width = constants.channels / groups;
  if constexpr (scaled) find_factors(x, scratch, constants);
  for (int64_t group = 0; group < groups; ++group) {
    const W factor = scaled ? scratch[group] : W(1);
#pragma omp simd
    for (int64_t k = group * width; k < (group + 1) * width; ++k) {
      const W s = scaled ? x[k] * factor : x[k], value = centred ? s - mean[k] : s;
      if constexpr (Pass::sums) squares[k] += value * value;
      if constexpr (Pass::stores) {
        y[k] = value * scale[k] + shift[k];
      } else {
        sums[k] += value;
      }
    }
  }
}

// A row: dY (s - mu) and dY are added to the sums; where the pass stores, ds = scale dY - product (s - mu) - shift, and
// dX = ds, with the scaling (ds - s mean(ds s)) factor, a mean a group.
template <typename Pass, bool scaled, bool centred, typename W>
INLINE void backward(const W* x, const W* dy, W* dx, W* products, W* sums, W* scratch, const Constants<W>& constants) {
  const W *mean = constants.mean, *scale = constants.scale, *shift = constants.shift, *product = constants.product;
  const int64_t groups = scaled ? constants.groups : 1, width = constants.channels / groups;
  if constexpr (scaled) find_factors(x, scratch, constants);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t start = group * width, end = start + width;
    const W factor = scaled ? scratch[group] : W(1);
    W* ds = scaled ? scratch + groups - start : dx;  // read again at once, which memory just written to is slow at
    W inner = 0;
#pragma omp simd reduction(+ : inner)
    for (int64_t k = start; k < end; ++k) {
      const W s = scaled ? x[k] * factor : x[k], value = centred ? s - mean[k] : s;
      products[k] += dy[k] * value;
      sums[k] += dy[k];
      if constexpr (Pass::stores) {
        const W grad = dy[k] * scale[k] - value * product[k] - (centred ? shift[k] : W(0));
        if constexpr (scaled) inner += grad * s;
        ds[k] = grad;
      }
    }
    if constexpr (Pass::stores && scaled) {
      const W share = inner / W(width) * factor * factor;
#pragma omp simd
      for (int64_t k = start; k < end; ++k) dx[k] = ds[k] * factor - x[k] * share;
    }
  }
}

// The passes: whether they store rows, and whether they sum over them.
template <bool stores_rows, bool sums_rows>
struct Forward {
  static constexpr bool stores = stores_rows, sums = sums_rows;
  template <bool scaled, bool centred, typename W>
  static INLINE void row(const W* x, const W*, W* y, W* sums, W* scratch, const Constants<W>& constants) {
    forward<Forward, scaled, centred>(x, y, sums, sums + constants.channels, scratch, constants);
  }
};
template <bool stores_rows>
struct Backward {
  static constexpr bool stores = stores_rows, sums = true;
  template <bool scaled, bool centred, typename W>
  static INLINE void row(const W* x, const W* dy, W* dx, W* sums, W* scratch, const Constants<W>& constants) {
    backward<Backward, scaled, centred>(x, dy, dx, sums, sums + constants.channels, scratch, constants);
  }
};
using Apply = Forward<true, false>;
using Normalize = Forward<true, true>;
using Moments = Forward<false, true>;
using GradientSums = Backward<false>;
using Gradient = Backward<true>;

template <typename Pass, typename W>
INLINE void choose(const W* x, const W* dy, W* out, W* sums, W* scratch, const Constants<W>& constants) {
  const bool centred = constants.mean != nullptr;
  if (constants.groups > 0) {
    centred ? Pass::template row<true, true>(x, dy, out, sums, scratch, constants)
            : Pass::template row<true, false>(x, dy, out, sums, scratch, constants);
  } else {
    centred ? Pass::template row<false, true>(x, dy, out, sums, scratch, constants)
            : Pass::template row<false, false>(x, dy, out, sums, scratch, constants);
  }
}

// target_clones takes no templates, so each pass and type has a function of its own.
#define ROW(Pass, W)                                                                                          \
  FOR_EVERY_PROCESSOR void compute(Pass, const W* x, const W* dy, W* out, W* sums, W* scratch,                \
                                   const Constants<W>& constants) {                                           \
    choose<Pass>(x, dy, out, sums, scratch, constants);                                                       \
  }
#define ROWS(Pass) ROW(Pass, float) ROW(Pass, double)
ROWS(Apply) ROWS(Normalize) ROWS(Moments) ROWS(GradientSums) ROWS(Gradient)
#undef ROWS
#undef ROW

// The tensor itself where it has the type already: asking torch for that takes as long as a vector of channels.
Tensor as_type(const Tensor& tensor, at::ScalarType type) { return tensor.scalar_type() == type ? tensor : tensor.to(type); }

template <typename W>
std::vector<W> per_channel(int64_t channels, const auto& function) {
  std::vector<W> values(static_cast<size_t>(channels));
  for (int64_t k = 0; k < channels; ++k) values[k] = function(k);
  return values;
}

// One call of an operator: its arguments checked, contiguous and in the arithmetic's type, kept alive here.
template <typename W>
class Call {
 public:
  Call(const Tensor& rows, const Optional& padding, const Optional& mean, double eps, int64_t groups) : eps_(eps) {
    rows_ = contiguous(rows);
    channels = rows.size(-1);
    count_ = channels > 0 ? rows.numel() / channels : 0;
    real = count_;
    TORCH_CHECK(groups >= 0 && (groups == 0 || channels % groups == 0), "expected a number of groups that divides ",
                channels, " channels, got ", groups);
    if (padding.has_value()) {
      TORCH_CHECK(padding->scalar_type() == at::kBool && padding->numel() == count_, "expected a bool for each of ",
                  count_, " rows, got ", padding->sizes(), " of type ", padding->scalar_type());
      padding_ = padding->contiguous();
      const bool* flags = padding_.template const_data_ptr<bool>();
      real -= std::count(flags, flags + count_, true);
    }
    constants.channels = channels;
    constants.groups = groups;
    constants.eps = static_cast<W>(eps);
    constants.mean = vector(mean);
  }

  // A vector of a value per channel; nullptr for none.
  const W* vector(const Optional& vector) {
    if (!vector.has_value()) return nullptr;
    TORCH_CHECK(vector->dim() == 1 && vector->size(0) == channels, "expected a vector of ", channels,
                " channels, got ", vector->sizes());
    kept_.push_back(contiguous(*vector));
    return kept_.back().template const_data_ptr<W>();
  }

  // 1 / sqrt(d + eps), and that times gamma.
  std::vector<W> inverse_roots(const Tensor& second_moment) {
    const W* d = vector(second_moment);
    return per_channel<W>(channels, [&](int64_t k) { return W(1) / std::sqrt(d[k] + static_cast<W>(eps_)); });
  }
  std::vector<W> scaled_by(const std::vector<W>& roots, const Optional& weight) {
    const W* gamma = vector(weight);
    return gamma == nullptr ? roots : per_channel<W>(channels, [&](int64_t k) { return gamma[k] * roots[k]; });
  }

  // Runs a pass over the real rows, and adds up its two sums; either may go nowhere. Padding gets `shift`, or 0.
  template <typename Pass>
  void run(const Optional& grad, Tensor* out, Tensor* first, Tensor* second) {
    if (grad.has_value()) {
      TORCH_CHECK(grad->sizes() == rows_.sizes(), "expected a gradient ", rows_.sizes(), ", got ", grad->sizes());
      kept_.push_back(contiguous(*grad));
    }
    const W *x = rows_.template const_data_ptr<W>(), *dy = grad ? kept_.back().template const_data_ptr<W>() : nullptr;
    W* y = out == nullptr ? nullptr : (*out = at::empty(rows_.sizes(), rows_.options())).template mutable_data_ptr<W>();
    const bool* padding = padding_.defined() ? padding_.template const_data_ptr<bool>() : nullptr;
    const W* filling = dy == nullptr ? constants.shift : nullptr;
    // Inside another parallel region everything runs on this very thread, under its number there.
    const int64_t threads = at::in_parallel_region() ? at::get_thread_num() + 1 : at::get_num_threads();
    const int64_t summed = Pass::sums ? 2 * channels : 0;
    std::vector<double> totals(static_cast<size_t>(threads * summed), 0.0);
    at::parallel_for(0, count_, std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, channels)),
                     [&](int64_t begin, int64_t end) {
      double* total = totals.data() + at::get_thread_num() * summed;
      std::vector<W> buffer(static_cast<size_t>(summed + constants.groups + channels), W(0));
      W *sums = buffer.data(), *scratch = sums + summed;
      int64_t real_rows = 0;
      for (int64_t row = begin; row < end; ++row) {
        W* to = y == nullptr ? nullptr : y + row * channels;
        if (padding == nullptr || !padding[row]) {
          compute(Pass(), x + row * channels, dy == nullptr ? nullptr : dy + row * channels, to, sums, scratch, constants);
          ++real_rows;
        } else if (to != nullptr) {
          for (int64_t k = 0; k < channels; ++k) to[k] = filling == nullptr ? W(0) : filling[k];
        }
        if (real_rows == kRowsPerSum || row + 1 == end) {
          for (int64_t k = 0; k < summed; ++k) total[k] += static_cast<double>(sums[k]);
          std::fill_n(sums, summed, W(0));
          real_rows = 0;
        }
      }
    });
    for (int64_t thread = 1; thread < threads; ++thread) {
      for (int64_t k = 0; k < summed; ++k) totals[k] += totals[thread * summed + k];
    }
    for (Tensor* sum : {first, second}) {
      if (sum == nullptr) continue;
      *sum = at::empty({channels}, rows_.options());
      std::copy_n(totals.data() + (sum == second ? channels : 0), channels, sum->template mutable_data_ptr<W>());
    }
  }

  Tensor scalar(int64_t value) const {
    const Tensor scalar = at::empty({}, rows_.options());
    *scalar.template mutable_data_ptr<W>() = static_cast<W>(value);
    return scalar;
  }

  W number(const Tensor& scalar) const {
    TORCH_CHECK(scalar.numel() == 1, "expected a number, got ", scalar.sizes());
    return *as_type(scalar, c10::CppTypeToScalarType<W>::value).template const_data_ptr<W>();
  }

  Constants<W> constants;
  int64_t channels, real;

 private:
  Tensor contiguous(const Tensor& tensor) const {
    return as_type(tensor, c10::CppTypeToScalarType<W>::value).contiguous();
  }

  double eps_;
  Tensor rows_, padding_;
  int64_t count_;
  std::vector<Tensor> kept_;
};

template <typename W>
void multiply(const Tensor& vector, const auto& factor) {
  W* values = vector.mutable_data_ptr<W>();
  for (int64_t k = 0; k < vector.numel(); ++k) values[k] *= factor(k);
}

#define BY_TYPE(rows, ...)                                                                                      \
  TORCH_CHECK(rows.dim() > 0 && rows.is_floating_point(), "expected floating-point rows (..., C), got ",        \
              rows.sizes(), " of type ", rows.scalar_type());                                                   \
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat, "fairseq_powernorm", __VA_ARGS__)

template <typename Pass, typename W>
void run_forward(Call<W>& call, const Tensor& second_moment, const Optional& weight, const Optional& bias, Tensor* out,
                 Tensor* squares) {
  const auto scale = call.scaled_by(call.inverse_roots(second_moment), weight);
  const std::vector<W> zeros(bias.has_value() ? 0 : call.channels);
  call.constants.scale = scale.data();
  call.constants.shift = bias.has_value() ? call.vector(bias) : zeros.data();
  call.template run<Pass>({}, out, squares, nullptr);
}

Tensor normalize_by_constants(const Tensor& rows, const Optional& mean, const Tensor& second_moment,
                              const Optional& weight, const Optional& bias, double eps, int64_t groups) {
  Tensor output;
  BY_TYPE(rows, [&] {
    Call<scalar_t> call(rows, {}, mean, eps, groups);
    run_forward<Apply>(call, second_moment, weight, bias, &output, nullptr);
  });
  return as_type(output, rows.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> normalize(const Tensor& rows, const Optional& padding, const Optional& mean,
                                             const Tensor& second_moment, const Optional& weight, const Optional& bias,
                                             double eps, int64_t groups) {
  Tensor output, mean_square, count;
  BY_TYPE(rows, [&] {
    Call<scalar_t> call(rows, padding, mean, eps, groups);
    run_forward<Normalize>(call, second_moment, weight, bias, &output, &mean_square);
    count = call.scalar(call.real);
    multiply<scalar_t>(mean_square, [&](int64_t) { return scalar_t(1) / std::max<int64_t>(call.real, 1); });
  });
  return {as_type(output, rows.scalar_type()), mean_square, count};
}

std::tuple<Tensor, Tensor, Tensor> moments(const Tensor& rows, const Optional& padding, const Optional& mean,
                                           double eps, int64_t groups) {
  Tensor squares, sums, count;
  BY_TYPE(rows, [&] {
    Call<scalar_t> call(rows, padding, mean, eps, groups);
    call.template run<Moments>({}, nullptr, &squares, &sums);
    count = call.scalar(call.real);
  });
  return {squares, sums, count};
}

std::tuple<Tensor, Tensor> gradient_sums(const Tensor& rows, const Tensor& grad, const Optional& padding,
                                         const Optional& mean, const Tensor& second_moment, double eps, int64_t groups) {
  Tensor grad_weight, grad_bias;
  BY_TYPE(rows, [&] {
    Call<scalar_t> call(rows, padding, mean, eps, groups);
    const auto roots = call.inverse_roots(second_moment);
    call.template run<GradientSums>(grad, nullptr, &grad_weight, &grad_bias);
    multiply<scalar_t>(grad_weight, [&](int64_t k) { return roots[k]; });
  });
  return {grad_weight, grad_bias};
}

std::tuple<Tensor, Tensor, Tensor> gradient(const Tensor& rows, const Tensor& grad, const Optional& padding,
                                            const Optional& mean, const Tensor& second_moment, const Optional& weight,
                                            const Tensor& projection, const Optional& grad_mean, double eps,
                                            int64_t groups) {
  TORCH_CHECK(mean.has_value() == grad_mean.has_value(), "expected mean and grad_mean together or neither");
  Tensor grad_rows, grad_weight, grad_bias;
  BY_TYPE(rows, [&] {
    Call<scalar_t> call(rows, padding, mean, eps, groups);
    const auto roots = call.inverse_roots(second_moment), scale = call.scaled_by(roots, weight);
    const scalar_t *p = call.vector(projection), *m = call.vector(grad_mean);
    const auto product =
        per_channel<scalar_t>(call.channels, [&](int64_t k) { return p[k] * roots[k] * roots[k]; });
    const auto shift =
        per_channel<scalar_t>(m == nullptr ? 0 : call.channels, [&](int64_t k) { return m[k] * roots[k]; });
    call.constants.scale = scale.data();
    call.constants.product = product.data();
    call.constants.shift = shift.data();
    call.template run<Gradient>(grad, &grad_rows, &grad_weight, &grad_bias);
    multiply<scalar_t>(grad_weight, [&](int64_t k) { return roots[k]; });
  });
  return {as_type(grad_rows, rows.scalar_type()), grad_weight, grad_bias};
}

// running <- updated, unless the batch held no token or an entry is not finite.
template <typename W>
void update(const Tensor& running, W tokens, const auto& updated_value) {
  TORCH_CHECK(running.dim() == 1 && running.is_contiguous(), "expected a contiguous statistic, got ", running.sizes());
  const auto updated = per_channel<W>(running.numel(), updated_value);
  const bool finite = std::all_of(updated.begin(), updated.end(), [](W value) { return std::isfinite(value); });
  if (finite && tokens > 0) std::copy(updated.begin(), updated.end(), running.mutable_data_ptr<W>());
}

void move_average(const Tensor& running, const Tensor& batch, const Tensor& count, double alpha) {
  BY_TYPE(running, [&] {
    Call<scalar_t> call(running, {}, batch, 0, 0);
    const scalar_t *from = call.constants.mean, *old = running.const_data_ptr<scalar_t>();
    const auto a = static_cast<scalar_t>(alpha);
    update<scalar_t>(running, call.number(count), [&](int64_t k) {  // as torch.lerp
      return a < scalar_t(0.5) ? from[k] + a * (old[k] - from[k]) : old[k] - (old[k] - from[k]) * (1 - a);
    });
  });
}

void move_projection(const Tensor& projection, const Optional& weight, const Tensor& grad_weight,
                     const Tensor& second_moment, const Tensor& mean_square, const Tensor& count, double eps,
                     double alpha) {
  BY_TYPE(projection, [&] {
    Call<scalar_t> call(projection, {}, {}, eps, 0);
    const scalar_t *gamma = call.vector(weight), *product = call.vector(grad_weight);
    const scalar_t *d = call.vector(second_moment), *square = call.vector(mean_square);
    const scalar_t* nu = projection.const_data_ptr<scalar_t>();
    const scalar_t share = static_cast<scalar_t>(1 - alpha), tokens = call.number(count);
    update<scalar_t>(projection, tokens, [&](int64_t k) {
      const scalar_t ratio = square[k] / (d[k] + call.constants.eps);
      const scalar_t correlation = (gamma == nullptr ? scalar_t(1) : gamma[k]) * product[k] / std::max(tokens, scalar_t(1));
      return nu[k] + share * (correlation - nu[k] * ratio) / std::max(share * ratio, scalar_t(1));
    });
  });
}

}  // namespace

// Registers the operators; gives an error's text, or nullptr. Not when the library is loaded, as TORCH_LIBRARY_IMPL does:
// schemas that are not those of this build would end the process there.
extern "C" const char* register_operators() {
  static std::string message;
  static std::unique_ptr<torch::Library> kept;
  try {
    auto library = std::make_unique<torch::Library>(torch::Library::IMPL, "fairseq_powernorm", c10::DispatchKey::CPU,
                                                    __FILE__, __LINE__);
    library->impl("normalize_by_constants", normalize_by_constants);
    library->impl("normalize", normalize);
    library->impl("moments", moments);
    library->impl("gradient_sums", gradient_sums);
    library->impl("gradient", gradient);
    library->impl("move_average", move_average);
    library->impl("move_projection", move_projection);
    kept = std::move(library);
    return nullptr;
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
    return message.c_str();
  }
}
