package redisstore

import (
	"context"
	"regexp"
)

var placeName = regexp.MustCompile(`^[ -~]{0,100}$`)

// Place implements tokencache.Placer with Config.Name alone. What a server could have of its own
// is copied with its data, or changes when a replica is promoted.
func (s *Store) Place(context.Context) (id, name string, err error) { return "", s.cfg.Name, nil }
