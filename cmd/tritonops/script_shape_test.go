package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdShape writes the shape of a JSON answer: one line per field, its path and
// type, list elements taken together. That is what must not change once released.
func cmdShape(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "shape FILE TO")
	fields := map[string]bool{}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	for {
		var v any
		err := dec.Decode(&v)
		if err == io.EOF {
			break
		}
		ts.Check(err)
		shape(v, "", fields)
	}
	text := strings.Join(slices.Sorted(maps.Keys(fields)), "\n") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
}

func shape(v any, path string, fields map[string]bool) {
	note := func(kind string) {
		if path != "" || kind != "object" {
			fields[strings.TrimSpace(strings.TrimPrefix(path, ".")+" "+kind)] = true
		}
	}
	switch x := v.(type) {
	case map[string]any:
		note("object")
		for key, value := range x {
			shape(value, path+"."+key, fields)
		}
	case []any:
		note("list")
		for _, value := range x {
			shape(value, path+"[]", fields)
		}
	case float64:
		note("number")
	case nil:
		note("null")
	default:
		note(fmt.Sprintf("%T", x))
	}
}
