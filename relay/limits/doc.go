// Package limits says which of one subscription's messages may be delivered now: how many may be out at once and how many begin in a time,
// of all and of each value of something that they carry, such as their tenant. One owner counts, so the numbers are exact. It is pure: the
// time is a parameter, and nothing waits.
//
// A rate of n in a time means one each n-th part of it, and that a tenth of a second's worth, at least one, may begin together: in no time t
// do more begin than n·t and that.
//
// Where not all that waits may go, the values take turns: the one that was served longest ago is first.
package limits
