package pgstore

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// A DSN holds a password, and it is not always clear where that begins and ends. So no part of
// a DSN is printed.

// String returns the configuration without its addresses.
func (c Config) String() string {
	return fmt.Sprintf("pgstore.Config{DSN: %s, SessionDSN: %s, Pool: %t, Table: %q, Name: %q}", redacted(c.DSN), redacted(c.SessionDSN), c.Pool != nil, c.Table, c.Name)
}

// Format implements fmt.Formatter with String, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue implements slog.LogValuer with String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON implements json.Marshaler with String.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// Format implements fmt.Formatter, and shows only the table.
func (s *Store) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "pgstore.Store{%s}", s.sql.entries) }

func redacted(address string) string {
	if address == "" {
		return "none"
	}
	return "[redacted]"
}
