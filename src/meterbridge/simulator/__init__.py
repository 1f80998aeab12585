"""A simulated meter: the server side of DLMS/COSEM with believable values."""
