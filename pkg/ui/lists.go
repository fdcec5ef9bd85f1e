package ui

import (
	"encoding/json"
	"reflect"
)

// withLists returns v with every nil slice that JSON would show as null made an
// empty one: a field that is a list is always a list. It works on what v points
// to, where the difference means nothing to Go code.
func withLists(v any) any {
	if v == nil {
		return nil
	}
	c := reflect.New(reflect.TypeOf(v)).Elem()
	c.Set(reflect.ValueOf(v))
	fillLists(c)
	return c.Interface()
}

// fillLists walks a settable value.
func fillLists(v reflect.Value) {
	if v.CanInterface() {
		if _, own := v.Interface().(json.Marshaler); own {
			return // time.Time, json.RawMessage: they say themselves how they look
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			// The fields of an embedded struct are JSON fields, whatever its own name.
			if f := v.Type().Field(i); f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct {
				fillLists(v.Field(i))
			}
		}
	case reflect.Slice:
		fillSlice(v)
	case reflect.Array:
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if fixed, ok := filled(v.MapIndex(key)); ok {
				v.SetMapIndex(key, fixed)
			}
		}
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		if fixed, ok := filled(v.Elem()); ok {
			v.Set(fixed)
		}
	}
}

func fillSlice(v reflect.Value) {
	elem := v.Type().Elem()
	switch {
	case elem.Kind() == reflect.Uint8: // bytes are a string in JSON
	case v.IsNil():
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	case holdsNothing(elem):
	default:
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	}
}

// filled returns a fixed copy of a value that cannot be set in place; false if
// its kind cannot hold a list.
func filled(v reflect.Value) (reflect.Value, bool) {
	if holdsNothing(v.Type()) {
		return v, false
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	fillLists(c)
	return c, true
}

// holdsNothing says that a type is a plain value.
func holdsNothing(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Struct, reflect.Slice, reflect.Array, reflect.Map, reflect.Interface:
		return false
	}
	return true
}
