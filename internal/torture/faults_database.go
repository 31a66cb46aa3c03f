package torture

var databaseFaults = []*Fault{}
