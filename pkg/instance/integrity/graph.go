package integrity

import "slices"

// Graph knows which images were made from which. Its memory grows only with the
// images that have an origin.
type Graph struct {
	children map[string][]string
}

// Add notes an image and its origin ("" for none).
func (g *Graph) Add(uuid, origin string) {
	if origin == "" || origin == uuid {
		return
	}
	if g.children == nil {
		g.children = make(map[string][]string)
	}
	g.children[origin] = append(g.children[origin], uuid)
}

// Dependents returns the image and all that were made from it, children before
// their origins: the order in which they can be deleted. heads are those of them
// that nothing was made from; they are what gets provisioned. Origins that form a
// circle, which the server never makes, end the search where it closes.
func (g *Graph) Dependents(uuid string) (order, heads []string) {
	seen := map[string]bool{uuid: true}
	order = []string{uuid}
	for n := 0; n < len(order); n++ {
		kids := slices.Sorted(slices.Values(g.children[order[n]]))
		if len(kids) == 0 {
			heads = append(heads, order[n])
		}
		for _, k := range kids {
			if !seen[k] {
				seen[k] = true
				order = append(order, k)
			}
		}
	}
	slices.Reverse(order)
	return order, heads
}
