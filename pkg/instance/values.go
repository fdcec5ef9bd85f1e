package instance

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// falsy follows JavaScript, in which the server tests optional values.
func falsy(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	}
	return false
}

// kindOf names the JSON type of a decoded value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "missing"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number, float64:
		return "a number"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", v)
}

// show prints a scalar, and the kind of anything else.
func show(v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case []any:
		if len(v) == 0 {
			return "an empty array"
		}
	}
	return kindOf(v)
}

// toInt reads an integer written as a JSON number (1, 1.0, 1e3) or, as values
// that once passed through Moray are, as a decimal string.
func toInt(v any) (int64, error) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	default:
		return 0, fmt.Errorf("must be an integer, is %s", kindOf(v))
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, fmt.Errorf("must be an integer, is %s", strconv.Quote(s))
	}
	return int64(f), nil
}

func dotted(in, key string) string {
	if in == "" {
		return key
	}
	return in + "." + key
}
