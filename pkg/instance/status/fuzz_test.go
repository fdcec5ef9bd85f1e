package status

import (
	"strings"
	"testing"
)

// FuzzForeignText feeds what commands print and what lies in Manta to the
// parsers: whatever it is, evidence stays bounded and in its lines.
func FuzzForeignText(f *testing.F) {
	f.Add(svcsX)
	f.Add(`{"instance":"z0","alias":"images0","epoch":4,"renewed_at":"2026-11-22T13:01:55Z"}`)
	f.Add(`{"state":"active","updated_at":"x"}`)
	f.Add("svc:")
	f.Fuzz(func(t *testing.T, text string) {
		lines := evidenceLines(text, 5)
		if len(lines) > 6 {
			t.Errorf("%d lines", len(lines))
		}
		for _, l := range append(lines, faultedServices(text)...) {
			if strings.Contains(l, "\n") {
				t.Errorf("%q leaves its line", l)
			}
		}
		if holder, _, err := describeLock([]byte(text)); err == nil && !strings.HasPrefix(holder, "held by ") && !strings.HasPrefix(holder, "released by ") {
			t.Errorf("holder %q", holder)
		}
		if line, _, err := describeState("zone", []byte(text)); err == nil && line == "" {
			t.Error("a state without a word")
		}
	})
}
