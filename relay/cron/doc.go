// Package cron reads cron expressions and says when they are due next, in a zone of the tz database. It knows no clock and does no I/O but
// to load a zone.
//
// The dialect is that of ISC (Vixie) cron: five fields, minute hour day-of-month month day-of-week, each * or numbers, ranges, steps
// and lists of them; names of months and days; 0 and 7 are Sunday; @hourly and the like. It has no seconds, no years, and no L, W, # or ?.
//
//   - If day of month and day of week both say something (neither begins with *), a day is meant if one of them matches; else both
//     must.
//   - Wall times that daylight saving skips are due right after the change, once, and of those that it repeats only the first is due. An
//     expression whose minute or hour begins with * goes by the time that passes instead: it has nothing to make up for, and is due in
//     both of two repeated hours.
//   - A change of three hours or more is another calendar (the date line was moved), not daylight saving: what it skips is not made up
//     for, and what it repeats is due again.
//   - What falls on one moment is due once. (Vixie cron would run two skipped times of one job one after the other.)
//
// What is due is a set of moments, whatever the moment asked from: Next(t) is the least of the set that is after t.
package cron
