// Package pgstore keeps sealed entries in PostgreSQL.
package pgstore
