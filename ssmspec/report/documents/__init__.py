"""Results as JSON documents, CSV rows and JUnit XML, one module per verb. The schemas are the files in `report/schemas`."""
