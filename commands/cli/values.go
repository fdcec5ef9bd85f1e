package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// DurationVar is a flag like 90s, 36h, 30d or 2w.
func DurationVar(f *pflag.FlagSet, p *time.Duration, name string, def time.Duration, usage string) {
	*p = def
	f.Var(&value[time.Duration]{p, ParseDuration, FormatDuration, "duration"}, name, usage)
}

// BytesVar is a flag like 512, 64k, 1.5GiB: an amount of bytes, in powers of
// 1024 whichever way the unit is written.
func BytesVar(f *pflag.FlagSet, p *int64, name string, def int64, usage string) {
	*p = def
	f.Var(&value[int64]{p, ParseBytes, func(n int64) string { return strconv.FormatInt(n, 10) }, "bytes"}, name, usage)
}

// PercentVar is a flag like 10% or 12.5, kept as a share from 0 to 1.
func PercentVar(f *pflag.FlagSet, p *float64, name string, def float64, usage string) {
	*p = def
	f.Var(&value[float64]{p, ParsePercent, func(x float64) string {
		return strconv.FormatFloat(x*100, 'f', -1, 64) + "%"
	}, "percent"}, name, usage)
}

// value is a pflag.Value over a parser and a formatter.
type value[T any] struct {
	p      *T
	parse  func(string) (T, error)
	format func(T) string
	typ    string
}

func (v *value[T]) Type() string { return v.typ }
func (v *value[T]) String() string {
	if v.p == nil {
		return "" // pflag compares with a zero value to see whether a default is worth showing
	}
	return v.format(*v.p)
}
func (v *value[T]) Set(s string) (err error) {
	x, err := v.parse(s)
	if err == nil {
		*v.p = x
	}
	return err
}

// ParseDuration reads what time.ParseDuration reads, and whole days and weeks.
// Negative durations are refused: no flag has a use for one.
func ParseDuration(s string) (time.Duration, error) {
	for unit, one := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 31)
			if err != nil || time.Duration(n) > math.MaxInt64/one {
				return 0, fmt.Errorf("%q: not a duration: want 90s, 36h, 30d or 2w", s)
			}
			return time.Duration(n) * one, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q: not a duration: want 90s, 36h, 30d or 2w", s)
	}
	return d, nil
}

// FormatDuration writes what [ParseDuration] reads, in days where they are whole.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}

// ParseBytes reads a number with an optional unit: B, k, M, G, T, with or
// without iB or B behind.
func ParseBytes(s string) (int64, error) {
	num := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToLower(s[len(num):])
	if unit != "b" {
		unit = strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	}
	shift, ok := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit]
	x, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	n := x * float64(int64(1)<<shift)
	if err != nil || !ok || !(n >= 0 && n < math.MaxInt64) {
		return 0, fmt.Errorf("%q: not an amount of bytes: want 512, 64k or 1.5GiB", s)
	}
	return int64(n), nil
}

// ParsePercent reads 10% or 10 as 0.1; the range is 0 to 100.
func ParsePercent(s string) (float64, error) {
	x, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(x >= 0 && x <= 100) {
		return 0, fmt.Errorf("%q: not a percentage: want 10%% or 12.5", s)
	}
	return x / 100, nil
}
